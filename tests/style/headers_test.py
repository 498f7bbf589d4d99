#!/usr/bin/env python3
"""Every public header compiles alone, twice included; those of the planning half without torch.
Usage: headers_test.py COMPILER TORCH_DIR [ROOT]"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

PLANNING = {"core", "files", "arch", "data", "prefix", "plan", "config"}
TENSOR = "ATen/core/Tensor.h"


def torch_flags(torch):
    return [f"-isystem{torch / 'include'}", f"-isystem{torch / 'include/torch/csrc/api/include'}"]


def without_torch(header):
    room = header.parts[1]
    return room in PLANNING or header.name in ("options.hpp", "schedule.hpp", "spec.hpp")


def includes(root, header):
    """All that a header brings, by its own includes and by those of ours among them."""
    found, waiting = set(), [header.as_posix()]
    while waiting:
        file = root / "include" / waiting.pop()
        for name in re.findall(r'^#include [<"](\S+)[>"]', file.read_text(), re.M) if file.exists() else ():
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def compile_source(compiler, flags, *words):
    return subprocess.run([compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", *flags, *map(str, words)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)


def complaint(compiler, torch, root, header, folder):
    """What the compiler says of a source that includes the header twice; empty when all is well."""
    source = folder / (header.as_posix().replace("/", "_") + ".cpp")
    source.write_text(f'#include "{header.as_posix()}"\n' * 2)
    flags = ["-fsyntax-only", f"-I{root / 'include'}"]
    if not without_torch(header):
        flags += torch_flags(torch)
        if TENSOR in includes(root, header):  # it brings this itself: from the compiled one, which takes a tenth of the time
            flags += ["-include", folder / "tensor.hpp"]
    done = compile_source(compiler, flags, source)
    return done.stderr if done.returncode else ""


def main():
    compiler, torch = sys.argv[1], pathlib.Path(sys.argv[2])
    root = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else pathlib.Path(__file__).parents[2]).resolve()
    headers = sorted(path.relative_to(root / "include") for path in (root / "include").rglob("*.hpp"))
    failed = 0
    with tempfile.TemporaryDirectory() as name, concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        folder = pathlib.Path(name)
        (folder / "tensor.hpp").write_text(f"#include <{TENSOR}>\n")
        compile_source(compiler, torch_flags(torch), "-x", "c++-header", folder / "tensor.hpp", "-o", folder / "tensor.hpp.gch")
        said = pool.map(lambda header: complaint(compiler, torch, root, header, folder), headers)
        for header, text in zip(headers, said):
            if text:
                failed += 1
                print(f"include/{header} does not stand alone:\n{text[:1500]}")
    print(f"{len(headers) - failed} of {len(headers)} public headers compile alone")
    return 1 if failed or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
