#!/usr/bin/env bash
# Runs one rank of a test whose ranks share a GPU. usage: mpirun -np 2 nccl_rank.sh PROGRAM [ARGUMENT ...]
# NCCL 2.30 and later allow it when asked; earlier ones when every rank claims a host of its own and so goes by sockets.
set -euo pipefail
rank=${OMPI_COMM_WORLD_RANK:-0}
export NCCL_MULTI_RANK_GPU_ENABLE=1 NCCL_MAX_CTAS=4 NCCL_NVLS_ENABLE=0
export NCCL_HOSTID=rank$rank NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1
exec "$@"
