#!/usr/bin/env bash
# Sets up, builds everything and runs every test; ctest's own summary comes last. Arguments go to ctest.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/env.sh
source launch/env.sh

bash launch/setup.sh --with-parquet --with-transformers # or the tests that need them are skipped
build_preset release
# Four places for two cores: tests say how many they take (cmake/testing.cmake).
exec ctest --test-dir build/release --output-on-failure -j4 -LE 'gpu|long' "$@"
