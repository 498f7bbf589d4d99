#!/usr/bin/env bash
# Sets up, builds everything and runs every test; ctest's own summary comes last. Arguments go to ctest.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/env.sh
source launch/env.sh

bash launch/setup.sh --with-parquet --with-transformers # or the tests that need them are skipped
build_preset release
# Two at a time; tests with ranks say that they take both places.
exec ctest --test-dir build/release --output-on-failure -j2 -LE 'gpu|long' "$@"
