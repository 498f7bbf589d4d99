#!/usr/bin/env bash
# One folder that runs fpdist on a host with no MPI, no compiler and no network. Inside: the programs, the GPU tests, our
# libraries, and what they need that a bare host lacks, Open MPI with its plugins among it. Not inside: torch and CUDA,
# which come from the host's own Python, and glibc (the host's must be as new as this machine's).
# usage: launch/bundle.sh [--build DIR] [--without-tests] OUT
#   OUT ends in .tar.gz: a packed folder; else the folder itself, which must not exist yet.
# Programs that are not built are left out and named. More than 72 MiB is an error.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly most_mib=72
build=build/release with_tests=1 out=
while (($#)); do
  case $1 in
    --build) build=$2 && shift ;;
    --without-tests) with_tests=0 ;;
    -*) echo "bundle: unknown option $1" >&2 && exit 2 ;;
    *) out=$1 ;;
  esac
  shift
done
[[ -n $out ]] || { echo "bundle: say where to: launch/bundle.sh OUT" >&2 && exit 2; }
[[ ! -e $out ]] || { echo "bundle: $out is there already; name another place or remove it" >&2 && exit 2; }
[[ -f $build/lib/libfpdist.so ]] || { echo "bundle: nothing is built in $build; run launch/test.sh first" >&2 && exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/fpdist
mkdir -p "$bundle"/{bin,lib,newer,mpi/bin,mpi/lib/openmpi,mpi/lib/pmix,mpi/share/openmpi,configs,share/fpdist}

# Programs and our own libraries.
for program in fpdist_train fpdist_prepare fpdist_plan fpdist_report fpdist_bench fpdist_export fpdist_generate; do
  if [[ -x $build/bin/$program ]]; then cp "$build/bin/$program" "$bundle/bin/"; else echo "bundle: without $program" >&2; fi
done
cp "$build/lib/libfpdist.so" "$bundle/lib/"
if [[ -f $build/lib/libfpdist_cuda.so ]]; then
  cp "$build/lib/libfpdist_cuda.so" "$bundle/lib/"
else
  echo "bundle: without libfpdist_cuda.so: it was not built, so the bundle has the CPU alone" >&2
fi
: >"$bundle/gpu_tests.jsonl"
if ((with_tests)); then
  python3 launch/gpu_tests.py "$build" --programs "$bundle/bin" >"$bundle/gpu_tests.jsonl"
  if [[ -x $build/bin/comm_fault_program ]]; then cp "$build/bin/comm_fault_program" "$bundle/bin/" && cp tests/comm/fault_test.py "$bundle/"; fi
fi

# The text worker and what it imports; sentencepiece is made for one Python and stays behind, and so does what reads
# tables (170 MB): a bundle trains on JSON lines.
if [[ -d $build/share/fpdist/text/packages/tokenizers ]]; then
  mkdir "$bundle/share/fpdist/text"
  cp -RL "$build"/share/fpdist/text/{*.py,packages} "$bundle/share/fpdist/text/"
  rm -rf "$bundle"/share/fpdist/text/packages/{sentencepiece*,bin}
else
  echo "bundle: without text workers, so text rows cannot be read there: launch/setup.sh fetches what they import" >&2
fi

# Open MPI: its launcher, its daemon, and the plugins of a plain cluster; those of special networks need drivers of the
# host, and device tensors travel with NCCL anyway.
mpirun=$(readlink -f "$(command -v mpirun)")
orted=$(readlink -f "$(command -v orted)")
cp "$mpirun" "$bundle/mpi/bin/mpirun"
cp "$orted" "$bundle/mpi/bin/orted"
plugins=$(ompi_info --path pkglibdir --parsable | sed -n 's/^path:pkglibdir:\(.*openmpi3\?\)$/\1/p' | head -n 1)
for plugin in "$plugins"/mca_*.so; do
  case $plugin in
    *ucx* | *ofi* | *psm* | *openib* | *flux* | *slurm* | *gridengine* | *io_romio* | *memheap* | *mca_atomic* | *scoll* | *spml* | *sshmem*) ;;
    *) cp -L "$plugin" "$bundle/mpi/lib/openmpi/" ;;
  esac
done
share=$(ompi_info --path pkgdatadir --parsable | sed -n 's/^path:pkgdatadir://p' | head -n 1)
cp "$share"/*.txt "$bundle/mpi/share/openmpi/" 2>/dev/null || true
pmix=$(ldd "$plugins"/mca_pmix_ext*.so 2>/dev/null | sed -n 's/.*libpmix[^ ]* => \([^ ]*\) .*/\1/p' | head -n 1)
if [[ -n $pmix ]]; then cp -L "$(dirname "$(readlink -f "$pmix")")"/pmix/*.so "$bundle/mpi/lib/pmix/" 2>/dev/null || true; fi

# Everything that these link to, but what every host has (glibc) and what comes with its torch and driver.
from_host='^(linux-vdso|ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv|anl|nsl|BrokenLocale))\.so'
from_torch='^lib(torch.*|c10.*|gomp.*|cu[a-z].*|nv[A-Z].*|nvrtc.*|nvjitlink.*|nvidia-.*|nccl.*|nvshmem.*|shm)\.so'
{ ldd "$bundle"/bin/* "$bundle"/lib/* "$bundle"/mpi/bin/* "$bundle"/mpi/lib/*/*.so 2>/dev/null || true; } |
  sed -n 's/^\t\([^ ]*\) => \(\/[^ ]*\) .*/\1 \2/p' | sort -u | while read -r name file; do
  if [[ $name =~ $from_host || $name =~ $from_torch || -e $bundle/lib/$name ]]; then continue; fi
  case $name in
    libstdc++.so.6 | libgcc_s.so.1) cp -L "$file" "$bundle/newer/$name" ;; # used where the host's is too old
    *) cp -L "$file" "$bundle/lib/$name" ;;
  esac
done

# Paths of this machine mean nothing elsewhere; symbols only cost room.
cat >"$work/forget.cmake" <<'CMAKE'
file(GLOB files ${BUNDLE}/bin/* ${BUNDLE}/lib/* ${BUNDLE}/newer/* ${BUNDLE}/mpi/bin/* ${BUNDLE}/mpi/lib/*/*.so)
foreach(one ${files})
  file(RPATH_REMOVE FILE ${one})
endforeach()
CMAKE
cmake -DBUNDLE="$bundle" -P "$work/forget.cmake" >/dev/null
find "$bundle/bin" "$bundle/lib" "$bundle/mpi" -type f \( -perm -100 -o -name '*.so*' \) -exec strip --strip-unneeded {} + 2>/dev/null || true

install -m 755 launch/bundle_run.sh "$bundle/run.sh"
install -m 755 launch/gpu_check.sh launch/gpu_parts.sh launch/share_gpu.sh "$bundle/"
cp launch/gpu_report.py launch/compare_runs.py launch/run_gpu_tests.py launch/fabric.sh "$bundle/"
cp configs/*.yaml "$bundle/configs/"
cp LICENSE "$bundle/"

mib=$(du -sm --apparent-size "$bundle" | cut -f 1)
if ((mib >= most_mib)); then
  echo "bundle: $mib MiB, $most_mib is the limit; the largest files:" >&2
  find "$bundle" -type f -printf '%s %P\n' | sort -rn | head -n 8 >&2
  exit 1
fi
mkdir -p "$(dirname "$out")"
if [[ $out == *.tar.gz ]]; then
  tar -C "$work" -czf "$out" fpdist
else
  mv "$bundle" "$out"
fi
echo "bundle: $out, $mib MiB unpacked; start programs through its run.sh"
