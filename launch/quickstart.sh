#!/usr/bin/env bash
# From nothing to a trained model: set up, build the programs, make data, train on 8 ranks, say what came of it.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/env.sh
source launch/env.sh

bash launch/setup.sh
build_preset release fpdist_train fpdist_prepare

build/release/bin/fpdist_prepare --generate arithmetic --pairs 4096 --shots 12 --seed 0 \
  --output runs/quickstart/pairs.jsonl
mpirun -np 8 build/release/bin/fpdist_train configs/quickstart.yaml
python3 launch/summary.py runs/quickstart/out
