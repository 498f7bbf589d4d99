#!/usr/bin/env bash
# Runs one rank of a test whose ranks share a GPU. usage: mpirun -np 2 nccl_rank.sh PROGRAM [ARGUMENT ...]
# Any NCCL takes ranks that each claim a host of their own: they go by sockets then. NCCL 2.30 and later also take them
# as they are: run the test with NCCL_MULTI_RANK_GPU_ENABLE=1 set for that way.
# FPDIST_TEST_PRELOAD: a library for the program alone, the emulated GPU's.
set -euo pipefail
export NCCL_MAX_CTAS=4 NCCL_NVLS_ENABLE=0 NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1
if [[ ${NCCL_MULTI_RANK_GPU_ENABLE:-0} != 1 ]]; then
  export NCCL_HOSTID=rank${OMPI_COMM_WORLD_RANK:-0}
fi
if [[ -n ${FPDIST_TEST_PRELOAD:-} ]]; then export LD_PRELOAD=$FPDIST_TEST_PRELOAD; fi
exec "$@"
