# shellcheck shell=bash
# Sourced by the launchers and by people: what a cluster's network needs to be told. Nothing that is set already is
# changed; what is commented out is for the machines it names. One line says what each is for.

# Rank to GPU: nothing to set. Every rank sees all GPUs of its node and takes the one of its local rank; hiding GPUs
# (CUDA_VISIBLE_DEVICES a rank, --gpu-bind=single) would take peer-to-peer copies away and is not needed.

# FPDIST_INTERFACE=eth0: the network interface between the nodes; MPI's messages and NCCL's first contact go over it.
if [[ -n ${FPDIST_INTERFACE:-} ]]; then
  export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-$FPDIST_INTERFACE}"                     # NCCL's bootstrap, and data where there is no InfiniBand
  export OMPI_MCA_btl_tcp_if_include="${OMPI_MCA_btl_tcp_if_include:-$FPDIST_INTERFACE}"   # MPI data over TCP
  export OMPI_MCA_oob_tcp_if_include="${OMPI_MCA_oob_tcp_if_include:-$FPDIST_INTERFACE}"   # MPI's own daemons
fi
# FPDIST_NICS=mlx5_0,mlx5_1: the network cards for data, where a node also has cards for storage.
if [[ -n ${FPDIST_NICS:-} ]]; then
  export NCCL_IB_HCA="${NCCL_IB_HCA:-=$FPDIST_NICS}" # '=': these names exactly; NCCL pairs each GPU with the card nearest to it
  nics=${FPDIST_NICS//,/:1,}:1
  export UCX_NET_DEVICES="${UCX_NET_DEVICES:-$nics}" # the same cards for MPI over UCX (ranks on CPUs, comm.transport staged)
  unset nics
fi

export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"             # say why a connection failed; INFO tells which network and which rings were chosen
export NCCL_IB_TIMEOUT="${NCCL_IB_TIMEOUT:-22}"     # 4 us * 2^22: longer than a switch takes to find a way around a lost link
export NCCL_IB_RETRY_CNT="${NCCL_IB_RETRY_CNT:-7}"  # as often as the card can, before a lost packet is a lost rank

# export NCCL_CROSS_NIC=0         # rail-optimised networks (card i of every node on switch i): stay on the rail
# export NCCL_NET_GDR_LEVEL=SYS   # virtual machines that hide which card is near which GPU: use GPUDirect all the same
# export NCCL_IB_GID_INDEX=3      # RoCE v2 on cards whose first address is not the routable one
# export NCCL_IB_TC=106           # RoCE: the traffic class that the switches keep free of loss
# export NCCL_NVLS_ENABLE=0       # NVSwitch multicast off, where its setup fails (partitioned GPUs)
# export NCCL_MNNVL_ENABLE=0      # racks with NVLink across nodes: fall back to the network between them
# export CUDA_MODULE_LOADING=EAGER # all kernels when a rank starts (5 s longer on an H100), so that none is loaded while a peer's NCCL kernel waits
# How much of a GPU NCCL may take is no variable here: comm.nccl_max_ctas in the config.
