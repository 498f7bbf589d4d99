#!/usr/bin/env bash
# Installs what fpdist needs and is missing; idempotent, safe to run before every build.
# --with-parquet: and what data in Parquet and Arrow files are read with.
# --with-transformers: and what the tests of the Python package (src/python) and bench/shared_prefix_peers.py compare it with.
# System packages come from Debian (root or sudo); libtorch comes from the torch wheel and stays in .deps/.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly torch_version=2.11.0
# What a text worker imports (src/data/text/worker): 18 MB, no torch.
readonly text_packages=(tokenizers==0.23.3 jinja2==3.1.6 markupsafe==3.0.3 sentencepiece==0.2.3)
# What table_rows.py imports: 55 MB packed, 170 MB in .deps/tables.
readonly table_packages=(pyarrow==26.0.1)
# What the tests and examples of the Python package import beside torch, which they must not fetch again: 130 MB packed.
readonly transformers_packages=(transformers==5.23.0 trl==1.16.0 accelerate==1.15.0 datasets==5.2.0 pyarrow==26.0.1
  pandas==3.1.1 numpy==2.4.6 tokenizers==0.23.3 safetensors==0.8.0 huggingface_hub==2.4.0 hf-xet==1.8.0 httpx==0.28.1
  httpcore==1.0.9 httpx2==2.16.2 httpcore2==2.16.2 truststore==0.10.5 h11==0.16.0 anyio==4.16.0 sniffio==1.3.1 idna==3.20
  certifi==2026.5.20 requests==2.34.2 urllib3==2.7.0 charset-normalizer==3.4.7 regex==2026.5.9 packaging==26.4 pyyaml==6.0.3
  filelock==4.3.1 fsspec==2026.9.0 tqdm==4.70.1 typer==0.29.2 click==8.5.1 rich==15.0.0 pygments==2.20.0
  markdown-it-py==4.3.0 mdurl==0.1.2 shellingham==1.5.4 annotated-doc==0.0.7 typing_extensions==4.16.0 sympy==1.14.0
  mpmath==1.3.0 networkx==3.6.1 jinja2==3.1.6 markupsafe==3.0.3 psutil==7.2.2 dill==0.4.1 multiprocess==0.70.19
  xxhash==4.1.0 python-dateutil==2.9.0.post0 six==1.17.0 pytz==2026.6 tzdata==2026.6)
readonly packages=(g++ cmake ninja-build ccache openmpi-bin libopenmpi-dev libboost-program-options-dev
  libyaml-cpp-dev libgtest-dev libsimdjson-dev libxxhash-dev nlohmann-json3-dev clang-format shellcheck ca-certificates procps
  python3 python3-pip python3-yaml doxygen dpkg-dev file)

with_parquet=false
with_transformers=false
for argument in "$@"; do
  case $argument in
    --with-parquet) with_parquet=true ;;
    --with-transformers) with_transformers=true ;;
    *)
      printf 'setup: unknown argument %s: there are --with-parquet and --with-transformers\n' "$argument" >&2
      exit 2
      ;;
  esac
done

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

# fetch FOLDER SIZE PACKAGE==VERSION...: into .deps/FOLDER, whose marker names the first version and, as wheels are made
# for one version of Python, that.
fetch() {
  local folder=.deps/$1 size=$2 marker
  shift 2
  marker=$folder-${1#*==}-python$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])').done
  [[ ! -f $marker ]] || return 0
  say "fetching $* into $folder ($size)"
  rm -rf "$folder" "$folder"-*.done
  PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1 python3 -m pip install --quiet \
    --disable-pip-version-check --no-deps --target "$folder" "$@" >&2
  touch "$marker"
}
fetch text "18 MB" "${text_packages[@]}"
if $with_parquet; then
  fetch tables "55 MB" "${table_packages[@]}"
fi
# dill, which datasets pickles with, takes a module by name where its path says site-packages alone.
if $with_transformers; then
  fetch transformers/site-packages "130 MB" "${transformers_packages[@]}"
fi

# The GPU half is built where a CUDA toolkit is. What libtorch_cuda needs beyond the toolkit comes from the wheels that
# torch names, so that libfpdist_cuda can be opened here with or without a GPU.
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
if [[ -x $nvcc ]]; then
  toolkit=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
  declare -A wheel_of=(
    [libcufile.so.0]="nvidia-cufile>=1.15,<2" [libcusparseLt.so.0]="nvidia-cusparselt-cu13==0.8.0"
    [libnvshmem_host.so.3]="nvidia-nvshmem-cu13==3.4.5" [libcudnn.so.9]="nvidia-cudnn-cu13==9.19.0.56"
    [libnccl.so.2]="nvidia-nccl-cu13==2.28.9" [libcublas.so.13]="nvidia-cublas>=13,<14" [libcublasLt.so.13]="nvidia-cublas>=13,<14"
    [libcusparse.so.12]="nvidia-cusparse>=12,<13" [libcufft.so.12]="nvidia-cufft>=12,<13" [libcurand.so.10]="nvidia-curand>=10,<11"
    [libcusolver.so.12]="nvidia-cusolver>=12,<13" [libnvJitLink.so.13]="nvidia-nvjitlink>=13,<14" [libnvrtc.so.13]="nvidia-cuda-nvrtc>=13,<14")
  mapfile -t lacking < <(LD_LIBRARY_PATH="$toolkit/lib64:$toolkit/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
    ldd .deps/python/torch/lib/libtorch_cuda.so | awk '/not found/ {print $1}' | sort -u)
  wheels=()
  for library in "${lacking[@]}"; do
    if [[ -n ${wheel_of[$library]:-} ]]; then
      wheels+=("${wheel_of[$library]}")
    else
      say "libtorch_cuda.so needs $library, which neither $toolkit nor a known wheel has: GPU programs will not start here"
    fi
  done
  if ((${#wheels[@]})); then
    mapfile -t wheels < <(printf '%s\n' "${wheels[@]}" | sort -u)
    say "fetching what libtorch_cuda needs beyond $toolkit into .deps/ (about 250 MB for the usual three): ${wheels[*]}"
    # pip --target would leave out or replace the nvidia/ folder that is there: fetched apart and merged.
    rm -rf .deps/wheels
    PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1 python3 -m pip install --quiet \
      --disable-pip-version-check --no-deps --no-compile --target .deps/wheels "${wheels[@]}" >&2
    cp -r .deps/wheels/. .deps/python/
    rm -rf .deps/wheels
  fi
fi
