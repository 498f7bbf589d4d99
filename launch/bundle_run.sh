#!/usr/bin/env bash
# Runs a program of this bundle with the bundle's libraries and the host's own torch.
# usage: ./run.sh PROGRAM [arguments]     e.g. ./run.sh fpdist_train my.yaml
#        ./run.sh mpirun -np 2 fpdist_train my.yaml
#        ./run.sh --print-environment
# FPDIST_PYTHON: the Python that has torch (python3). FPDIST_TORCH: torch's folder itself, instead.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
(($#)) || { sed -n '2,6s/^# //p' "${BASH_SOURCE[0]}" && exit 2; }

# Found, not imported: that takes seconds, and may fail for reasons that do not matter here.
torch=${FPDIST_TORCH:-}
if [[ -z $torch ]]; then
  python=${FPDIST_PYTHON:-python3}
  command -v "$python" >/dev/null || { echo "run.sh: no $python here; set FPDIST_PYTHON or FPDIST_TORCH" >&2 && exit 2; }
  torch=$("$python" -c 'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")' || true)
fi
[[ -f $torch/lib/libtorch_cpu.so ]] || { echo "run.sh: ${FPDIST_PYTHON:-python3} has no torch; install torch 2.11.0, or set FPDIST_PYTHON or FPDIST_TORCH" >&2 && exit 2; }
version=$(sed -n "s/^__version__ = ['\"]\([^'\"+]*\).*/\1/p" "$torch/version.py" 2>/dev/null || true)
if [[ $version != 2.11.* && -z ${FPDIST_ANY_TORCH:-} ]]; then
  echo "run.sh: torch ${version:-of an unknown version} in $torch, but this was built for 2.11.0; install that one (FPDIST_ANY_TORCH=1 tries all the same)" >&2
  exit 2
fi

cuda=$(sed -n "s/^cuda.*= *['\"]\([0-9]*\).*/\1/p" "$torch/version.py" 2>/dev/null || true)
if [[ -f $here/lib/libfpdist_cuda.so && -n $cuda && $cuda != 13 ]]; then
  echo "run.sh: the torch in $torch was built for CUDA $cuda, this for CUDA 13: GPUs will not be found; the CPU works" >&2
fi

libraries=$here/lib:$torch/lib
for folder in "$torch"/../nvidia/*/lib; do
  if [[ -d $folder ]]; then libraries+=:$(cd "$folder" && pwd); fi
done
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PATH=$here/bin:$here/mpi/bin:$PATH
# Our libstdc++ only where the host's is older than what the programs were built with.
if ! "$here/bin/fpdist_plan" --help >/dev/null 2>&1; then export LD_LIBRARY_PATH=$here/newer:$LD_LIBRARY_PATH; fi

# Open MPI and PMIx look for their parts where they were installed, unless told.
export OPAL_PREFIX=$here/mpi OPAL_BINDIR=$here/mpi/bin OPAL_LIBDIR=$here/mpi/lib OPAL_PKGLIBDIR=$here/mpi/lib/openmpi
export OPAL_PKGDATADIR=$here/mpi/share/openmpi OPAL_SYSCONFDIR=$here/mpi/etc
export OMPI_MCA_mca_base_component_path=$here/mpi/lib/openmpi
export PMIX_INSTALL_PREFIX=$here/mpi PMIX_PKGLIBDIR=$here/mpi/lib/pmix PMIX_MCA_mca_base_component_path=$here/mpi/lib/pmix
export PMIX_MCA_pcompress_base_silence_warning=1
export OMPI_MCA_rmaps_base_oversubscribe=1
# One process alone needs no daemon beside it, and one host no remote shell.
export OMPI_MCA_ess_singleton_isolated=1
if ! command -v ssh >/dev/null && ! command -v rsh >/dev/null; then export OMPI_MCA_plm=isolated; fi
if [[ $(id -u) == 0 ]]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

if [[ $1 == --print-environment ]]; then
  env | grep -E '^(LD_LIBRARY_PATH|PATH|OPAL_|OMPI_|PMIX_)' | sort
  exit 0
fi
exec "$@"
