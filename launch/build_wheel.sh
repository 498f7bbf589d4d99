#!/usr/bin/env bash
# Builds the operators and packs the Python package (src/python) into a wheel. Usage: build_wheel.sh [OUTPUT_FOLDER]
# (default: out/); the wheel's path is the last line. --test: and installs it into a virtual environment of its own, with
# torch from PyPI (2 GB), where the tests of the package run; those that need transformers run if --with-transformers.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/env.sh
source launch/env.sh

output=out
tests=false
also=()
for argument in "$@"; do
  case $argument in
    --test) tests=true ;;
    --with-transformers) also=(transformers==5.23.0) ;;
    -*)
      printf 'build_wheel: unknown argument %s: there are --test and --with-transformers\n' "$argument" >&2
      exit 2
      ;;
    *) output=$argument ;;
  esac
done

build_preset release fpdist_operators >&2
wheel=$(python3 src/python/make_wheel.py build/release/python "$output")

if $tests; then
  environment=$(mktemp -d)
  trap 'rm -rf "$environment"' EXIT
  python3 -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel" "${also[@]}" >&2
  cd tests/python
  "$environment/bin/python" package_test.py >&2
  "$environment/bin/python" shared_prefix_test.py >&2 || (($? == 77))
  cd - >/dev/null
fi
printf '%s\n' "$wheel"
