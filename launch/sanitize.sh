#!/usr/bin/env bash
# The unit tests under AddressSanitizer with UndefinedBehaviorSanitizer, then those labelled tsan under ThreadSanitizer.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/env.sh
source launch/env.sh

bash launch/setup.sh
# Leaks are looked for too; nothing is suppressed.
build_preset asan
ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
  ctest --test-dir build/asan --output-on-failure --no-tests=error -LE 'mpi|gpu|style|long' "$@"

build_preset tsan comm_thread_test parallel_zero_thread_test parallel_executor_test optim_test
TSAN_OPTIONS=halt_on_error=1 ctest --test-dir build/tsan --output-on-failure --no-tests=error -L tsan "$@"
