#!/usr/bin/env python3
"""The packing table: every length file under every schedule, planned by fpdist_plan and priced again by price_plan.py.

usage: packing_quality.py [--program build/bin/fpdist_plan] [--data FOLDER] [--only FILE] [--compare]
Prints markdown: step / ideal (limit), other figures, and with --compare how much slower group first-fit-decreasing is at
its best cap. plan ms is the best of three runs. Ends with 1 if a limit is missed.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from price_plan import check

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCHEDULES = (("1f1b", 1), ("interleaved", 2), ("zb-h1", 1))
# File: dp, pp, cap, limits of step / ideal by schedule.
FILES = {
    "gsm8k": (8, 4, 4096, (1.54, 1.49, 1.32)),
    "gsm8k_pairs": (8, 4, 8192, (1.45, 1.39, 1.25)),
    "long_cot": (8, 4, 32768, (1.18, 1.14, 1.13)),
    "long_prompt": (8, 4, 32768, (1.25, 1.21, 1.17)),
    "mixed": (8, 4, 16384, (1.27, 1.23, 1.18)),
    "mixed_128": (8, 8, 16384, (1.38, 1.35, 1.28)),
    "agent_tree": (8, 4, 32768, (1.47, 1.39, 1.35)),
    "small": (2, 4, 8192, (1.50, 1.39, 1.28)),
}
LONG_PREFIXES = ("long_prompt", "mixed", "mixed_128", "agent_tree")


def plan(program, lengths, dp, pp, cap, schedule, runs, more=()):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "plan.json"
        subprocess.run([program, "--lengths", lengths, "--parallel.dp", str(dp), "--parallel.pp", str(pp), "--pack.max_tokens", str(cap),
                        "--parallel.schedule", schedule, "--parallel.virtual_stages", str(runs), "--json", out, *more],
                       check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return json.loads(out.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=ROOT / "build" / "bin" / "fpdist_plan")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data" / "lengths")
    parser.add_argument("--only", choices=FILES)
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    missed = []
    print("| file | schedule | step/ideal (limit) | gap to bound | bubble | replicas max/mean | packs, units | peak rows in flight | plan ms |"
          + (" group FFD, best cap |" if options.compare else ""))
    print("|---|---|---|---|---|---|---|---|---|" + ("---|" if options.compare else ""))
    for name, (dp, pp, cap, limits) in FILES.items():
        if options.only not in (None, name):
            continue
        lengths = options.data / f"{name}.jsonl"
        for (schedule, runs), limit in zip(SCHEDULES, limits):
            result = plan(options.program, lengths, dp, pp, cap, schedule, runs, ["--compare"] if options.compare else [])
            check(lengths, result, keep_lines=name == "gsm8k_pairs")
            times = [result["plan_ms"]]
            for _ in range(2):
                again = plan(options.program, lengths, dp, pp, cap, schedule, runs)
                assert again["plan"] == result["plan"], "another plan the second time"
                times.append(again["plan_ms"])
            value = result["step_over_ideal"]
            row = (f"| {name} | {schedule} | {value:.3f} ({limit}) | {result['gap']:.3f} | {result['bubble']:.3f} | {result['replica_imbalance']:.4f} "
                   f"| {result['packs']}, {result['units']} | {result['peak_tokens_in_flight']} | {min(times):.1f} |")
            if value > limit or result["replica_imbalance"] > 1.01:
                missed.append(f"{name} {schedule}")
            if options.compare:
                ffd = next(other for other in result["compare"] if other["name"] == "groups, first fit decreasing")["step_over_ideal"]
                row += f" {ffd:.3f} ({ffd / value:.2f}x) |"
                if name in LONG_PREFIXES and schedule != "zb-h1" and ffd < 1.1 * value:
                    missed.append(f"{name} {schedule}: only {ffd / value:.2f}x group first-fit-decreasing")
            print(row, flush=True)
    for one in missed:
        print(f"missed: {one}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
