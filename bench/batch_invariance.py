#!/usr/bin/env python3
"""What rollout.batch_invariant costs on the CPU: fpdist_generate with and without it, in turn in every round.

  python3 bench/batch_invariance.py [--build build/release] [--rounds 5] [--threads 1] [--dtype float32 bfloat16]

The model is that of generation_peers.py on the CPU; 16 prompts of 256 common and 64 own tokens, 8 completions each of 33
tokens. Seconds are those of the steps that decode, by the program's clocks. Prints each arm's median and the median of the
rounds' quotients. Needs a Python with transformers (launch/setup.sh --with-transformers).
"""
import argparse
import json
import pathlib
import random
import re
import statistics
import subprocess
import tempfile

from generation_peers import VOCABULARY, make_model
from step_peers import SAME_FOR_ALL


def decode_seconds(options, folder, dtype, prompts, invariant):
    with tempfile.TemporaryDirectory() as place:
        rows = pathlib.Path(place) / "prompts.jsonl"
        rows.write_text("".join(json.dumps({"prompt_ids": prompt}) + "\n" for prompt in prompts))
        done = subprocess.run([f"{options.build}/bin/fpdist_generate", "--model.path", folder, "--model.dtype", dtype, "--prompts", rows,
                               "--output", f"{place}/out.jsonl", "--rollout.num_generations", "8", "--rollout.max_completion_length", "33",
                               "--rollout.batch_invariant", str(int(invariant))],
                              check=True, capture_output=True, text=True, env={**SAME_FOR_ALL, "OMP_NUM_THREADS": str(options.threads)})
    return float(re.search(r"completions: \d+ tokens in ([\d.]+) s", done.stdout + done.stderr)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    options = parser.parse_args()
    draw = random.Random(7)
    common = [draw.randrange(VOCABULARY) for _ in range(256)]
    prompts = [common + [draw.randrange(VOCABULARY) for _ in range(64)] for _ in range(16)]
    for dtype in options.dtype:
        with tempfile.TemporaryDirectory() as place:
            folder = pathlib.Path(place) / "model"
            make_model(folder, dtype, "cpu")
            pairs = [[decode_seconds(options, folder, dtype, prompts, invariant) for invariant in (False, True)] for _ in range(options.rounds)]
        without, with_it = (statistics.median(arm) for arm in zip(*pairs, strict=True))
        times = statistics.median(after / before for before, after in pairs)
        print(f"{dtype}: without {without:.2f} s, with {with_it:.2f} s, {times:.2f} times; rounds {pairs}", flush=True)


if __name__ == "__main__":
    main()
