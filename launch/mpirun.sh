#!/usr/bin/env bash
# Trains on the hosts of a hostfile, one rank a slot.
#   launch/mpirun.sh HOSTFILE CONFIG.yaml [--section.key value ...]
# The project lies under the same path on every host, and the hosts accept ssh without a password from this one.
# FPDIST_INTERFACE and FPDIST_NICS name the network (launch/fabric.sh). FPDIST_BIN: the programs' folder.
set -euo pipefail
(($# >= 2)) || { echo "mpirun.sh: launch/mpirun.sh HOSTFILE CONFIG.yaml [--section.key value ...]" >&2 && exit 2; }
hostfile=$1
shift
[[ -f $hostfile ]] || { echo "mpirun.sh: there is no hostfile $hostfile; launch/hostfile.example shows one" >&2 && exit 2; }
# shellcheck source=launch/fabric.sh
source "$(dirname "${BASH_SOURCE[0]}")/fabric.sh"

slots=$(sed -e 's/#.*//' "$hostfile" | awk 'NF { n = 1; for (i = 2; i <= NF; ++i) if (sub(/^slots=/, "", $i)) n = $i; sum += n } END { print sum + 0 }')
((slots > 0)) || { echo "mpirun.sh: $hostfile names no host" >&2 && exit 2; }
# What the other hosts must know too.
settings=()
while IFS='=' read -r name _; do settings+=(-x "$name"); done < <(env | grep -E '^(NCCL_|UCX_|OMP_NUM_THREADS=|GOMP_SPINCOUNT=|LD_LIBRARY_PATH=)')
# slot: fill a host before the next, so that neighbours (tp) are together. numa: a rank keeps to one NUMA domain.
exec mpirun -np "$slots" --hostfile "$hostfile" --map-by slot --bind-to numa "${settings[@]}" \
  "${FPDIST_BIN:-build/release/bin}/fpdist_train" "$@"
