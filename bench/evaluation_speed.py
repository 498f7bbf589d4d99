#!/usr/bin/env python3
"""Tokens a second of an evaluation and of the forward of training steps, on the same rows in the same run: after every
step all rows are evaluated. Medians over the steps behind the first.
Usage: evaluation_speed.py BIN_DIR MPIRUN [--ranks N] [--method dpo] [--hidden H] [--layers L] [--steps N]"""
import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

from checkpoint_cost import make_model, mpi_environment


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", type=pathlib.Path)
    parser.add_argument("mpirun")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--method", choices=("reward", "sft"), default="reward")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    return parser.parse_args()


def make_rows(path, method, pairs):
    rng = random.Random(1)

    def ids(count):
        return [rng.randrange(1, 319) for _ in range(count)]

    rows = []
    for _ in range(pairs):
        prompt, answers = ids(192), (ids(64), ids(64))
        if method == "sft":
            rows += [{"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer} for answer in answers]
        else:
            rows.append({"prompt_ids": prompt, "chosen_ids": answers[0], "rejected_ids": answers[1]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


def forward_seconds(trace):
    """Of the rank that was longest in forward ops."""
    events = json.loads(trace.read_text())
    events = events["traceEvents"] if isinstance(events, dict) else events
    of_rank = {}
    for event in events:
        if event.get("cat") == "forward":
            of_rank[event["pid"], event["tid"]] = of_rank.get((event["pid"], event["tid"]), 0) + event["dur"] / 1e6
    return max(of_rank.values())


def main():
    options = parse()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        parameters = make_model(folder / "model", options.hidden, options.layers)
        rows = make_rows(folder / "rows.jsonl", options.method, options.pairs)
        line = [options.mpirun, "-np", str(options.ranks), str(options.bin / "fpdist_train"), "--method", options.method,
                "--model.path", str(folder / "model"), "--data.path", str(folder / "rows.jsonl"), "--data.eval_path",
                str(folder / "rows.jsonl"), "--train.output_dir", str(folder / "out"), "--train.groups_per_step", str(rows),
                "--train.max_steps", str(options.steps), "--train.eval_steps", "1", "--train.profile_steps", str(options.steps)]
        done = subprocess.run(line, env=mpi_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(done.stdout)
        training, evaluation = [], []
        for row in map(json.loads, (folder / "out/metrics.jsonl").read_text().splitlines()):
            if "eval_loss" in row:
                evaluation.append(row["eval_tokens_per_second"])
            else:
                training.append(row["tokens_logical"] / forward_seconds(folder / f"out/trace-{row['step']}.json"))
        ratios = [of_evaluation / of_training for of_training, of_evaluation in zip(training[1:], evaluation[1:])]
        print(f"{parameters / 1e6:.1f} M parameters, {options.method}, {options.ranks} ranks, {rows} rows: training's forward "
              f"{statistics.median(training[1:]):.0f} tokens/s, evaluation {statistics.median(evaluation[1:]):.0f}: "
              f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
