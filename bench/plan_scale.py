#!/usr/bin/env python3
"""What planning costs where steps are large: fpdist_plan on groups of four, by samples and mesh.

usage: plan_scale.py [--program build/release/bin/fpdist_plan] [--samples 10000,100000,1000000] [--sweep] [--complete]
Groups of four: prefix 100 to 2,000 tokens, completions 50 to 1,500, packs of at most 16,384 rows, 1F1B. Prints markdown:
user CPU seconds of the whole program from the length file to the result and its peak memory, by dp and pp; every plan is
made twice where --twice is given and must have the same hash. --sweep: dp 1 to 1024 at 50,000 samples. Reading: a file
whose last line is wrong, which is all that the program then does.
"""
import argparse
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]


def write_groups(path, samples):
    rng = random.Random(5)
    with open(path, "w") as file:
        for _ in range(samples // 4):
            completions = ", ".join(str(rng.randint(50, 1500)) for _ in range(4))
            file.write(f'{{"prefix": {rng.randint(100, 2000)}, "completions": [{completions}]}}\n')


def run(program, lengths, *arguments):
    """Exit code, output, user seconds, peak MB."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([program, "--lengths", lengths, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return process.returncode, out.read().decode(), usage.ru_utime, usage.ru_maxrss / 1024


def plan(options, lengths, dp, pp):
    more = ["--complete"] if options.complete else []
    rc, said, seconds, megabytes = run(options.program, lengths, "--parallel.dp", dp, "--parallel.pp", pp, "--pack.max_tokens", 16384, *more)
    if rc != 0:
        sys.exit(f"dp {dp} x pp {pp}: {said}")
    over_ideal = float(re.search(r"step / ideal +([\d.]+)", said).group(1))
    return seconds, megabytes, over_ideal, re.search(r"packs' hash +(\d+)", said).group(1)


def table(options, folder):
    print("| samples | dp x pp | user s | user s a 10,000 | peak MB | step/ideal |\n|---|---|---|---|---|---|")
    for samples in options.samples:
        lengths = folder / f"{samples}.jsonl"
        write_groups(lengths, samples)
        for dp in (8, 64, 512, 4096):
            for pp in (4, 8):
                seconds, megabytes, over_ideal, digest = plan(options, lengths, dp, pp)
                if options.twice and plan(options, lengths, dp, pp)[3] != digest:
                    sys.exit(f"dp {dp} x pp {pp}: another plan the second time")
                print(f"| {samples:,} | {dp} x {pp} | {seconds:.2f} | {seconds * 1e4 / samples:.3f} | {megabytes:.0f} | {over_ideal:.3f} |", flush=True)


def sweep(options, folder):
    lengths = folder / "sweep.jsonl"
    write_groups(lengths, 50_000)
    seconds = []
    print("| dp | user s | step/ideal |\n|---|---|---|")
    for dp in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640, 768, 896, 1024):
        second, _, over_ideal, _ = plan(options, lengths, dp, 4)
        seconds.append(second)
        print(f"| {dp} | {second:.2f} | {over_ideal:.3f} |", flush=True)
    print(f"\nslowest / fastest: {max(seconds) / min(seconds):.2f}")


def reading(options, folder):
    lengths = folder / "read.jsonl"
    write_groups(lengths, 2_000_000)
    with open(lengths, "a") as file:
        file.write("]\n")
    _, said, seconds, _ = run(options.program, lengths)
    assert "not a JSON object" in said, said
    print(f"\nreading: {lengths.stat().st_size / seconds / 1e6:.0f} MB/s ({lengths.stat().st_size / 1e6:.0f} MB in {seconds:.2f} s of user CPU)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=ROOT / "build" / "release" / "bin" / "fpdist_plan")
    parser.add_argument("--samples", type=lambda text: [int(one) for one in text.split(",")], default=[10_000, 100_000, 1_000_000])
    for flag in ("--sweep", "--twice", "--complete"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reading(options, pathlib.Path(folder))
        (sweep if options.sweep else table)(options, pathlib.Path(folder))


if __name__ == "__main__":
    main()
