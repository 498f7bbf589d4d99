#!/usr/bin/env bash
# One part of gpu_check.sh, which calls this under a time limit: gpu_parts.sh PART. What it says last is the part's
# summary; exit code 77 is a part that cannot run here and says why. Settings come in check_* variables.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${check_gpus:?is set by gpu_check.sh}" "${check_work:?}" "${check_limit:?}"
check_build=${check_build:-} # empty in a bundle
preload=()                   # before every program, and before nothing else
if [[ -n ${check_emulated:-} ]]; then preload=(env "LD_PRELOAD=$check_emulated"); fi

skip() { echo "SKIPPED: $*" && exit 77; }

# Paths of programs and scripts, in a bundle and in a checkout. In a bundle run.sh finds them.
program() {
  if [[ -n ${check_bundle:-} ]]; then "$here/run.sh" "${preload[@]}" "$@"; else "${preload[@]}" "$check_build/bin/$1" "${@:2}"; fi
}
ranks() { # N PROGRAM ...: where there are fewer GPUs than ranks, they share
  local wrap=()
  if (($1 > check_gpus)); then wrap=("$here/share_gpu.sh"); fi
  if [[ -n ${check_bundle:-} ]]; then
    "$here/run.sh" mpirun -np "$1" "${wrap[@]}" "${preload[@]}" "${@:2}"
  else
    mpirun -np "$1" "${wrap[@]}" "${preload[@]}" "$check_build/bin/$2" "${@:3}"
  fi
}
# A run of the tiny model: OUT DEVICE DATA STEPS
train() {
  program fpdist_train --method dpo --model.preset tiny --model.device "$2" --data.path "$3" --train.max_steps "$4" \
    --train.groups_per_step 8 --train.output_dir "$1" --data.max_length 2048 --optim.learning_rate 1e-4
}
test_programs() {
  local options=(--launcher "$here/run.sh")
  if [[ -z ${check_bundle:-} ]]; then options=(--programs "$check_build/bin"); fi
  if [[ -n ${check_emulated:-} ]]; then options+=(--preload "$check_emulated"); fi
  python3 "$here/run_gpu_tests.py" "$1" "${options[@]}" --share "$here/share_gpu.sh" --gpus "$check_gpus" --tests "${check_tests:-.}" "${@:2}"
}
list_of_tests() { # into $1
  if [[ -n ${check_bundle:-} ]]; then cp "$here/gpu_tests.jsonl" "$1"; else python3 "$here/gpu_tests.py" "$check_build" >"$1"; fi
}

part_tests() {
  if [[ -z ${check_bundle:-} && -z ${check_emulated:-} ]]; then
    ctest --test-dir "$check_build" -L gpu -R "${check_tests:-.}" --output-on-failure --no-tests=error
  else
    list_of_tests "$check_work/tests.list"
    local code=0
    lost_rank || code=1
    test_programs "$check_work/tests.list" || code=$?
    return "$code"
  fi
}
lost_rank() { # a killed, a stopped and a throwing rank: a script, so not among the programs
  if [[ ! -f $here/fault_test.py || ! comm_nccl_fault_test =~ ${check_tests:-.} ]]; then return 0; fi
  "$here/run.sh" python3 "$here/fault_test.py" comm_fault_program mpirun 2 "$here/share_gpu.sh" "${preload[@]}"
}
part_sanitizer() {
  command -v compute-sanitizer >/dev/null || skip "compute-sanitizer is not installed here (it comes with the CUDA toolkit)"
  list_of_tests "$check_work/sanitizer.list" && test_programs "$check_work/sanitizer.list" --sanitizer compute-sanitizer
}
part_same_bits() {
  local pairs=$check_work/arithmetic.jsonl steps=20
  if [[ -n ${check_emulated:-} ]]; then steps=2; fi
  program fpdist_prepare --generate arithmetic --pairs 32 --shots 3 --output "$pairs"
  for run in a b; do train "$check_work/same_$run" cuda "$pairs" "$steps"; done
  python3 "$here/compare_runs.py" same "$check_work/same_a" "$check_work/same_b"
}
part_curve() {
  [[ -n $check_pairs ]] || skip "no --pairs FILE.jsonl was given: no loss curve"
  local steps=50
  if [[ -n ${check_emulated:-} ]]; then steps=2; fi
  train "$check_work/curve_device" cuda "$check_pairs" "$steps"
  train "$check_work/curve_cpu" cpu "$check_pairs" "$steps"
  python3 "$here/compare_runs.py" curve "$check_work/curve_device" "$check_work/curve_cpu" --limit 1e-3
}
part_gemm() {
  local sizes=()
  if [[ -n ${check_emulated:-} ]]; then sizes=(--shapes '64,64' --rows 64 --rounds 1 --calls 1); fi
  program fpdist_bench gemm --device cuda "${sizes[@]}" --json "$check_work/gemm.jsonl"
}
part_pointwise() {
  local sizes=()
  if [[ -n ${check_emulated:-} ]]; then sizes=(--model small --rows 8 --rounds 1 --calls 1); fi
  program fpdist_bench pointwise --device cuda "${sizes[@]}" --json "$check_work/pointwise.jsonl"
}
part_attention() {
  local sizes=()
  if [[ -n ${check_emulated:-} ]]; then sizes=(--shapes '64,2,20' --heads '2,1,64' --rounds 1 --calls 1); fi
  program fpdist_bench attention --device cuda "${sizes[@]}" --json "$check_work/attention.jsonl"
  # The portable kernels: what a Hopper leaves to them, and its own sizes.
  if [[ -z ${check_emulated:-} ]]; then sizes=(--shapes 8192 '4096,8,1024' --heads '32,8,64' '32,8,96' '32,8,128' '16,8,256'); fi
  program fpdist_bench attention --device cuda --sm 80 "${sizes[@]}" --json "$check_work/attention.jsonl"
}
part_decode() {
  local sizes=()
  if [[ -n ${check_emulated:-} ]]; then sizes=(--shapes '8,2,3,2,4,6' --heads '4,2,64' --rounds 1 --calls 1); fi
  program fpdist_bench decode --device cuda "${sizes[@]}" --json "$check_work/decode.jsonl"
}
part_step() {
  local sizes=(--layers 4 --gradient-checkpointing) # as the peers' decoder layers
  if [[ -n ${check_emulated:-} ]]; then sizes=(--model small --layers 1 --grid '32,8,2' --rounds 1); fi
  program fpdist_bench step --device cuda "${sizes[@]}" --json "$check_work/step.jsonl"
}
part_comm() {
  local n=2 sizes=(--from 8K --to 256M)
  if ((check_gpus > 2)); then n=$check_gpus; fi
  if [[ -n ${check_emulated:-} ]]; then sizes=(--to 2K --iterations 2 --warmup 1); fi
  if ((n > check_gpus)); then sizes+=(--share-gpus); fi
  ranks "$n" fpdist_bench comm --device cuda "${sizes[@]}" --json "$check_work/comm.jsonl"
}
part_peers() {
  [[ -n $check_peers ]] || skip "no --peers peers_gpu.py was given: no Python peers"
  local python=${FPDIST_PYTHON:-python3} options=(--what layer --layers 4)
  "$python" -c 'import torch' 2>/dev/null || skip "$python cannot import torch: set FPDIST_PYTHON"
  if [[ -n ${check_emulated:-} ]]; then options=(--device cpu --tiny --what logprob --iters 1); fi
  "$python" "$check_peers" "${options[@]}" --time-limit "$((check_limit * 9 / 10))" --json "$check_work/peers.json"
}

case $1 in
  tests) part_tests ;;
  sanitizer) part_sanitizer ;;
  same_bits) part_same_bits ;;
  curve) part_curve ;;
  gemm) part_gemm ;;
  pointwise) part_pointwise ;;
  attention) part_attention ;;
  decode) part_decode ;;
  step) part_step ;;
  comm) part_comm ;;
  peers) part_peers ;;
  *) echo "gpu_parts: there is no part $1" && exit 2 ;;
esac
