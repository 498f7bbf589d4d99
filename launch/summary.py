#!/usr/bin/env python3
"""What a run learned and what sharing saved: summary.py OUTPUT_DIR, from its metrics.jsonl."""
import json
import pathlib
import sys

LEARNED = ("loss", "rewards/accuracies", "rewards/margins", "accuracy", "reward", "mean_token_accuracy")


def main():
    folder = pathlib.Path(sys.argv[1])
    with open(folder / "metrics.jsonl") as lines:
        steps = [json.loads(line) for line in lines if line.strip()]
    if not steps:
        sys.exit(f"{folder / 'metrics.jsonl'} holds no step")
    first, last = steps[0], steps[-1]
    print(f"\n{'':24}{'step ' + str(first['step']):>12}{'step ' + str(last['step']):>12}")
    for name in LEARNED:
        if isinstance(first.get(name), (int, float)) and isinstance(last.get(name), (int, float)):
            print(f"{name:24}{first[name]:12.4f}{last[name]:12.4f}")
    logical = sum(step["tokens_logical"] for step in steps)
    computed = sum(step["tokens_computed"] for step in steps)
    seconds = sum(step["seconds"] for step in steps)
    print(f"\ntokens the samples hold   {logical:12,}")
    print(f"tokens computed           {computed:12,}   sharing saved {logical / computed:.2f}x")
    print(f"seconds in steps          {seconds:12.1f}")
    print(f"the model is in           {folder / 'final'}/")


if __name__ == "__main__":
    main()
