#!/usr/bin/env bash
# Everything that needs a GPU, in one command: tests, compute-sanitizer, the same run twice, DPO against the CPU's loss
# curve, the benches and, if given, the Python peers. Works in a checkout (builds what is missing) and in a bundle.
# usage: launch/gpu_check.sh [--pairs FILE.jsonl] [--peers peers_gpu.py] [--only PART,PART] [--tests REGEX]
#                            [--limit SECONDS] [--build DIR] [--out DIR] [--emulated LIBRARY]
#   --pairs  preference pairs for the loss curve (GSM8K's, say); --peers needs a Python with torch: FPDIST_PYTHON
#   --limit  seconds for each part (600; tests: 1800, ranks that share a card take turns);  --tests  only tests of such names
#   --emulated build/release/emulated_gpu/libcuda.so.1  on a GPU that the CPU emulates, with tiny sizes: no GPU is needed
#            and none is measured, but everything here takes the way that it takes on one
# Parts: tests sanitizer same_bits curve gemm pointwise attention decode step comm peers. One that fails or takes too long does not stop the others.
# Writes gpu-<date>.json and .md into bench/results (a bundle: results). Exit code: 0 all well, 1 a part failed, 2 no GPU.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'gpu_check: %s\n' "$*" >&2; }
check_emulated='' check_build='' check_pairs='' check_peers='' check_tests='' check_limit=600 given_limit='' out='' only=
while (($#)); do
  case $1 in
    --emulated) check_emulated=$(realpath "$2") && shift ;;
    --tests) check_tests=$2 && shift ;;
    --build) check_build=$(realpath "$2") && shift ;;
    --pairs) check_pairs=$(realpath "$2") && shift ;;
    --peers) check_peers=$(realpath "$2") && shift ;;
    --limit) check_limit=$2 given_limit=1 && shift ;;
    --only) only=,$2, && shift ;;
    --out) out=$2 && shift ;;
    --help) sed -n '2,12s/^# //p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) say "unknown option $1; see --help" && exit 2 ;;
  esac
  shift
done
for file in $check_pairs $check_peers $check_emulated; do [[ -f $file ]] || { say "there is no file $file" && exit 2; }; done

check_gpus=1
if [[ -z $check_emulated ]]; then
  check_gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
  if ((check_gpus == 0)); then
    say "no NVIDIA GPU with a driver here (nvidia-smi -L names none): nothing was checked; --emulated goes without one"
    exit 2
  fi
fi
check_bundle=''
if [[ -x $here/run.sh ]]; then
  check_bundle=1
  out=${out:-$here/results}
else
  # shellcheck source=launch/env.sh
  source "$here/env.sh"
  out=${out:-$here/../bench/results}
  if [[ -z $check_build ]]; then
    (cd "$here/.." && bash launch/setup.sh && build_preset release)
    check_build=$(realpath "$here/../build/release")
  fi
fi
mkdir -p "$out"
out=$(realpath "$out")
check_work=$(mktemp -d)
trap 'rm -rf "$check_work"' EXIT
if [[ -n $check_emulated ]]; then export OMP_WAIT_POLICY=passive; fi # tries often share the machine
export check_emulated check_build check_pairs check_peers check_tests check_limit check_gpus check_bundle check_work
# Which way share_gpu.sh goes; in a bundle and in a checkout NCCL comes with torch.
version='import ctypes; v = ctypes.c_int(); ctypes.CDLL("libnccl.so.2").ncclGetVersion(ctypes.byref(v)); print(v.value)'
if [[ -n $check_bundle ]]; then
  FPDIST_NCCL_VERSION=$("$here/run.sh" python3 -c "$version" 2>/dev/null || echo 0)
else
  FPDIST_NCCL_VERSION=$(LD_LIBRARY_PATH="$here/../.deps/python/nvidia/nccl/lib:${LD_LIBRARY_PATH:-}" python3 -c "$version" 2>/dev/null || echo 0)
fi
export FPDIST_NCCL_VERSION

failed=0
for part in tests sanitizer same_bits curve gemm pointwise attention decode step comm peers; do
  if [[ -n $only && $only != *,$part,* ]]; then continue; fi
  begin=$(date +%s.%N)
  code=0
  limit=$check_limit
  if [[ $part == tests && -z $given_limit ]]; then limit=1800; fi
  timeout --kill-after=15 "$limit" bash "$here/gpu_parts.sh" "$part" >"$check_work/$part.log" 2>&1 </dev/null || code=$?
  case $code in
    0) state=passed ;;
    77) state=skipped ;;
    124 | 137) state='too long' && failed=1 ;;
    *) state=FAILED && failed=1 ;;
  esac
  seconds=$(python3 -c 'import sys, time; print(f"{time.time() - float(sys.argv[1]):.1f}")' "$begin")
  printf '%s\t%s\t%s\t%s\n' "$part" "$state" "$seconds" "$code" >>"$check_work/parts.tsv"
  say "$part: $state, $seconds s: $(tail -n 1 "$check_work/$part.log")"
  if [[ $state == FAILED || $state == 'too long' ]]; then tail -n 40 "$check_work/$part.log" >&2; fi
done
name=gpu-$(date -u +%Y-%m-%d)
if [[ -n $check_emulated ]]; then name=gpu-emulated; fi
python3 "$here/gpu_report.py" "$check_work" "$out" "$name"
say "written: $out/$name.json and .md"
exit $failed
