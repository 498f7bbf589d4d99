#!/usr/bin/env python3
"""Runs a list of test programs without ctest: run_gpu_tests.py LIST [--launcher ./run.sh] [--share share_gpu.sh]
[--gpus N] [--programs FOLDER] [--sanitizer compute-sanitizer] [--preload LIBRARY] [--tests REGEX].

LIST has one JSON object a line, as gpu_tests.py prints them. Tests of several ranks go through mpirun and, where the
machine has fewer GPUs than that, through share_gpu.sh. --sanitizer runs the one-rank tests labelled small (all one-rank
tests when none is) under that tool. A test that fails or takes too long does not stop the others. Exit code 1 when one
failed or there was none, 77 when all were skipped by themselves.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time


def command_of(test, arguments):
    program = str(arguments.programs / test["program"]) if arguments.programs else test["program"]
    line = [program, *test["arguments"]]
    if arguments.sanitizer:
        line = [arguments.sanitizer, "--error-exitcode", "9", "--leak-check", "no", *line]
    if arguments.preload:
        line = ["env", f"LD_PRELOAD={arguments.preload}", *line]
    if test["ranks"] > 1:
        share = [str(arguments.share)] if arguments.share and test["ranks"] > arguments.gpus else []
        line = ["mpirun", "-np", str(test["ranks"]), *share, *line]
    return ([str(arguments.launcher)] if arguments.launcher else []) + line


def run(test, arguments):
    """(exit code or None for too long, output)"""
    limit = float(test["timeout"]) * (10 if arguments.sanitizer else 1)
    process = subprocess.Popen(command_of(test, arguments), env=dict(os.environ, **test["environment"]),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True)
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own group, started above
        return None, process.communicate()[0]


def excerpt(output, before=2, after=14, most=160):
    """What GoogleTest says of failures, wherever it stands in a long output, then the end."""
    lines = output.splitlines()
    said = [i for i, line in enumerate(lines) if ": Failure" in line or ": error" in line][:8]
    shown = sorted({j for i in said for j in range(max(0, i - before), min(len(lines), i + after))})[:most]
    return "\n".join([lines[i] for i in shown] + ["..."] + lines[-40:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=pathlib.Path)
    for name in ("--launcher", "--share", "--programs", "--preload"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--gpus", type=int, default=0, help="of this machine")
    parser.add_argument("--sanitizer")
    parser.add_argument("--tests", default=".", help="a regular expression for their names")
    arguments = parser.parse_args()
    tests = [json.loads(line) for line in arguments.list.read_text().splitlines() if line]
    tests = [test for test in tests if re.search(arguments.tests, test["name"])]
    if arguments.sanitizer:
        tests = [test for test in tests if test["ranks"] == 1]
        tests = [test for test in tests if test["small"]] or tests
    if not tests:
        print("no test in the list: the GPU tests were not built")
        return 1
    failed = skipped = 0
    for number, test in enumerate(tests, 1):
        started = time.monotonic()
        code, output = run(test, arguments)
        state = "too long" if code is None else {0: "passed", 77: "skipped"}.get(code, f"FAILED ({code})")
        failed, skipped = failed + (code not in (0, 77)), skipped + (code == 77)
        print(f"{number}/{len(tests)} {test['name']}: {state}, {time.monotonic() - started:.1f} s", flush=True)
        if code not in (0, 77):
            print(excerpt(output), flush=True)
    print(f"{len(tests) - failed - skipped} of {len(tests)} tests passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 77 if skipped == len(tests) else 0


if __name__ == "__main__":
    sys.exit(main())
