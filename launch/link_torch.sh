#!/bin/sh
# Links the installation that this script lies in (share/fpdist) to the torch that its libraries load.
# usage: link_torch.sh [TORCH]     TORCH: the torch package's folder; without it, where python3 has it
set -eu
prefix=$(cd "$(dirname "$0")/../.." && pwd)
library=
for file in "$prefix"/lib*/libfpdist.so "$prefix"/lib*/*/libfpdist.so; do
  if [ -f "$file" ]; then library=$(dirname "$file"); fi
done
if [ -z "$library" ]; then
  echo "link_torch: no libfpdist.so in $prefix/lib: this script belongs into share/fpdist of an installation" >&2
  exit 2
fi
torch=${1:-$(python3 -c 'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")' || true)}
version=$(sed -n 's/^set(fpdist_torch_version "\(.*\)")$/\1/p' "$library/cmake/fpdist/fpdist-config.cmake")
if [ ! -f "$torch/lib/libtorch_cpu.so" ]; then
  echo "link_torch: no torch in '$torch': pip install torch==$version, then sh $0 [the torch package's folder]" >&2
  exit 2
fi
here=$(sed -n "s/^__version__ = ['\"]\([^'\"+]*\).*/\1/p" "$torch/version.py")
if [ "$here" != "$version" ]; then
  echo "link_torch: $torch is torch $here, but fpdist was built with $version: pip install torch==$version, then sh $0 [its folder]" >&2
  exit 2
fi
mkdir -p "$library/fpdist"
ln -sfn "$(cd "$torch" && pwd)" "$library/fpdist/torch"
echo "link_torch: $library/fpdist/torch is $torch"
