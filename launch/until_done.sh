#!/usr/bin/env bash
# Starts a training run again until it is done, each time from its newest checkpoint.
#   launch/until_done.sh mpirun -np 4 build/release/bin/fpdist_train CONFIG.yaml [--section.key value ...]
# The line ends in fpdist_train's arguments: --train.resume_from_checkpoint auto is added where it does not speak of it.
# It starts again after the exit codes 8 (a rank was lost), 75 (stopped on request), 137 and 139 (a rank was killed or
# crashed); with any other it ends, as that. SIGUSR1, SIGTERM and the first Ctrl-C are handed on as SIGUSR1: the run saves,
# and both end with 75. A second Ctrl-C ends the run at once.
# FPDIST_TRIES (20): so many runs in a row may end within FPDIST_STEADY (600) seconds each. FPDIST_WAIT (5): seconds before
# the second start, twice as many before each further one, 300 at most.
set -uo pipefail
(($#)) || { echo "until_done.sh: name a command: launch/until_done.sh mpirun -np 4 fpdist_train CONFIG.yaml" >&2 && exit 2; }
tries=${FPDIST_TRIES:-20} steady=${FPDIST_STEADY:-600} first_wait=${FPDIST_WAIT:-5} most_wait=300
stopped=75
command=("$@")
[[ $* == *resume[-_]from[-_]checkpoint* ]] || command+=(--train.resume_from_checkpoint auto)

asked=0 child=0 # child: the run's process, 0 between two runs
on_signal() {
  asked=$((asked + 1))
  ((child)) || exit "$stopped"
  if [[ $1 == INT ]] && ((asked > 1)); then kill -INT "$child"; else kill -USR1 "$child"; fi
}
for name in USR1 TERM INT; do
  # shellcheck disable=SC2064 # the name as it is now
  trap "on_signal $name" "$name"
done

# Waits for a process through signals that are caught meanwhile; its exit code is the result.
wait_for() {
  local code
  while :; do
    wait "$1"
    code=$?
    kill -0 "$1" 2>/dev/null || return "$code"
  done
}

failures=0 pause=$first_wait
while :; do
  began=$SECONDS
  # In a session of its own: Ctrl-C comes here alone, and mpirun does not end its ranks for it.
  setsid "${command[@]}" &
  child=$!
  wait_for "$child"
  code=$? child=0
  ((asked)) && exit "$code"
  case $code in
  8 | 75 | 137 | 139) ;;
  *) exit "$code" ;;
  esac
  if ((SECONDS - began >= steady)); then failures=0 pause=$first_wait; fi
  failures=$((failures + 1))
  if ((failures >= tries)); then
    echo "until_done.sh: exit code $code, $failures times in a row within $steady seconds: giving up" >&2
    exit "$code"
  fi
  echo "until_done.sh: exit code $code; starting again in $pause seconds ($failures of $tries)" >&2
  sleep "$pause" &
  wait "$!"
  pause=$((pause * 2 < most_wait ? pause * 2 : most_wait))
done
