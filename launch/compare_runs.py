#!/usr/bin/env python3
"""Two training runs, held against each other. Ends with 1 when they differ by more than is allowed.

  compare_runs.py same  OUT_A OUT_B               every metric but times, and final/model.safetensors: the same bits
  compare_runs.py curve OUT_A OUT_B --limit 1e-3  losses, step by step: at most so far apart
"""
import argparse
import json
import pathlib
import sys


def is_time(name):
    """Whether a metric depends on the clock."""
    return (name.endswith(("seconds", "bubble", "imbalance", "_per_second", "_runtime", "tail_fraction"))
            or name in ("mfu", "exposed_communication"))


def steps(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not is_time(k) and not k.startswith("memory")} for line in lines]


def same(a, b):
    for one, other in zip(steps(a), steps(b)):
        if one != other:
            names = sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
            return f"step {one['step']} differs in {', '.join(names)}"
    if len(steps(a)) != len(steps(b)):
        return "one run has more steps"
    weights = [(folder / "final/model.safetensors").read_bytes() for folder in (a, b)]
    return "" if weights[0] == weights[1] else "the weights differ"


def curve(a, b, limit):
    left, right = steps(a), steps(b)
    if len(left) != len(right) or not left:
        return f"{len(left)} steps against {len(right)}"
    apart = [abs(one["loss"] - other["loss"]) for one, other in zip(left, right)]
    worst = max(range(len(apart)), key=apart.__getitem__)
    print(f"{len(left)} steps, loss {left[0]['loss']:.6f} to {left[-1]['loss']:.6f}; most apart in step {worst + 1}: "
          f"{apart[worst]:.3g} (limit {limit:g})")
    return "" if apart[worst] <= limit else "the losses part"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["same", "curve"])
    parser.add_argument("runs", nargs=2, type=pathlib.Path)
    parser.add_argument("--limit", type=float, default=1e-3)
    arguments = parser.parse_args()
    problem = same(*arguments.runs) if arguments.what == "same" else curve(*arguments.runs, arguments.limit)
    print(problem or ("the same bits" if arguments.what == "same" else "the same curve"))
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
