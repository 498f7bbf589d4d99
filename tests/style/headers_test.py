#!/usr/bin/env python3
"""Every public header compiles alone, twice included; those of the planning half without torch.
Usage: headers_test.py COMPILER TORCH_DIR [ROOT]"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile

PLANNING = {"core", "files", "arch", "data", "prefix", "plan", "config"}


def without_torch(header):
    room = header.parts[1]
    return room in PLANNING or header.name in ("options.hpp", "schedule.hpp", "spec.hpp")


def complaint(compiler, torch, root, header, folder):
    """What the compiler says of a source that includes the header twice; empty when all is well."""
    source = folder / (header.as_posix().replace("/", "_") + ".cpp")
    source.write_text(f'#include "{header.as_posix()}"\n' * 2)
    flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{root / 'include'}"]
    if not without_torch(header):
        flags += [f"-isystem{torch / 'include'}", f"-isystem{torch / 'include/torch/csrc/api/include'}"]
    done = subprocess.run([compiler, *flags, str(source)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def main():
    compiler, torch = sys.argv[1], pathlib.Path(sys.argv[2])
    root = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else pathlib.Path(__file__).parents[2]).resolve()
    headers = sorted(path.relative_to(root / "include") for path in (root / "include").rglob("*.hpp"))
    failed = 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        said = pool.map(lambda header: complaint(compiler, torch, root, header, pathlib.Path(folder)), headers)
        for header, text in zip(headers, said):
            if text:
                failed += 1
                print(f"include/{header} does not stand alone:\n{text[:1500]}")
    print(f"{len(headers) - failed} of {len(headers)} public headers compile alone")
    return 1 if failed or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
