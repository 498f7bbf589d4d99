#!/usr/bin/env bash
# Between mpirun and a program: lets several ranks share one GPU through NCCL, for tests on a machine with too few.
#   mpirun -np 2 launch/share_gpu.sh PROGRAM [arguments]
# FPDIST_NCCL_VERSION: as ncclGetVersion says it (23000 is 2.30.0); unknown: the way that any version goes.
set -euo pipefail
export NCCL_MAX_CTAS=4       # both ranks' kernels must fit on the GPU at once, or each waits for the other for ever
export NCCL_NVLS_ENABLE=0    # multicast objects need a GPU a rank
if ((${FPDIST_NCCL_VERSION:-0} >= 23000)); then
  export NCCL_MULTI_RANK_GPU_ENABLE=1
else
  rank=${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-0}}
  export NCCL_HOSTID=rank$rank      # ranks that seem to be on hosts of their own are not refused
  export NCCL_SOCKET_IFNAME=lo      # and talk over the loopback
  export NCCL_IB_DISABLE=1
fi
exec "$@"
