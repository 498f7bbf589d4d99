#!/usr/bin/env bash
# Installs what fpdist needs and is missing; idempotent, safe to run before every build.
# System packages come from Debian (root or sudo); libtorch comes from the torch wheel and stays in .deps/.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly torch_version=2.11.0
readonly packages=(g++ cmake ninja-build ccache openmpi-bin libopenmpi-dev libboost-program-options-dev
  libyaml-cpp-dev libgtest-dev libsimdjson-dev nlohmann-json3-dev clang-format ca-certificates procps python3 python3-pip)

say() { printf 'setup: %s\n' "$*" >&2; }

command -v dpkg-query >/dev/null || {
  say "this is no Debian: install by hand what matches: ${packages[*]}; then build with cmake --preset release"
  exit 2
}
missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  [[ $state == ?i* ]] || missing+=("$package")
done
if ((${#missing[@]})); then
  say "installing Debian packages: ${missing[*]}"
  as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || {
      say "run this once as root, or install sudo, so that apt-get can install: ${missing[*]}"
      exit 2
    }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# libtorch: the wheel without its dependencies. The CPU half needs two small CUDA libraries beside it and no GPU.
# --target leaves the system's Python alone, which Debian guards all the same (PEP 668). The marker comes last, so a
# download that was cut off starts again.
if [[ ! -f .deps/torch-$torch_version.done ]]; then
  say "fetching torch $torch_version into .deps/ (530 MB)"
  rm -rf .deps/python
  mkdir -p .deps
  PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1 python3 -m pip install --quiet \
    --disable-pip-version-check --no-deps --no-compile --target .deps/python \
    "torch==$torch_version" "nvidia-cuda-runtime>=13,<14" "nvidia-cuda-cupti>=13,<14" typing_extensions >&2
  touch ".deps/torch-$torch_version.done"
fi
