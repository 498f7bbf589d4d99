#!/usr/bin/env python3
"""The GPU tests of a build tree for a host that has no ctest: gpu_tests.py BUILD --programs FOLDER.

Asks ctest for the tests labelled gpu, copies their programs into FOLDER and prints one JSON line a test:
{"name", "program", "arguments", "ranks", "environment", "timeout", "small"}. Tests that are not one of our programs
(scripts) are left out and named on stderr. "small": labelled so, for compute-sanitizer.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys


def describe(test, build):
    """One line's value, or None for a test whose command is no program of the build."""
    command = list(test.get("command", []))
    environment, ranks = {}, 1
    if len(command) > 2 and pathlib.Path(command[0]).name.startswith("cmake") and command[1:3] == ["-E", "env"]:
        command = command[3:]
        while command and "=" in command[0] and not command[0].startswith("/"):
            name, value = command.pop(0).split("=", 1)
            environment[name] = value
    if command and pathlib.Path(command[0]).name in ("mpirun", "mpiexec", "orterun"):
        ranks = int(command[command.index("-np") + 1])
        at = next((i for i, word in enumerate(command) if word.startswith(str(build))), len(command))
        command = command[at:]
    if not command or not command[0].startswith(str(build)):
        return None
    properties = {p["name"]: p["value"] for p in test.get("properties", [])}
    environment.update(entry.split("=", 1) for entry in properties.get("ENVIRONMENT", []))
    environment = {name: value for name, value in environment.items() if not name.startswith("OMPI_")}
    return {"name": test["name"], "program": pathlib.Path(command[0]).name, "path": command[0], "arguments": command[1:],
            "ranks": ranks, "environment": environment, "timeout": properties.get("TIMEOUT", 120),
            "small": "small" in properties.get("LABELS", [])}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--programs", type=pathlib.Path)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    listing = subprocess.run(["ctest", "--test-dir", str(build), "-L", "gpu", "--show-only=json-v1"], check=True,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    for test in json.loads(listing)["tests"]:
        entry = describe(test, build)
        if entry is None or not pathlib.Path(entry["path"]).exists():
            print(f"gpu_tests: without {test['name']}: it is no program that was built", file=sys.stderr)
            continue
        if arguments.programs:
            shutil.copy(entry["path"], arguments.programs)
        del entry["path"]
        print(json.dumps(entry))


if __name__ == "__main__":
    main()
