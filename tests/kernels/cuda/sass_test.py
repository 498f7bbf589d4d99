#!/usr/bin/env python3
"""What ptxas has made of our kernels, kernel by kernel and GPU by GPU: as many products, matrix loads and waits as the PTX
asks for, no more fences than it has (ptxas puts in what it misses, one at a time, and the kernel is right and slow), and
nothing in local memory. Reads machine code with cuobjdump, a part of the CUDA toolkit that not every one has: 77 without.
Usage: sass_test.py NVCC OBJECTS, the last a list with colons between"""
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys

# An instruction of the PTX and what becomes of each in the machine code.
SAME = {r"wgmma\.mma_async": r"\bHGMMA\b", r"mma\.sync": r"\bHMMA\b", r"ldmatrix": r"\bLDSM\b",
        r"wgmma\.wait_group": r"\bWARPGROUP\.DEPBAR\b", r"wgmma\.fence": r"\bWARPGROUP\.ARRIVE\b"}
LOCAL = re.compile(r"\b(LDL|STL)\b")


def tool(nvcc):
    found = pathlib.Path(nvcc).parent / "cuobjdump"
    return str(found) if found.exists() else shutil.which("cuobjdump")


def said(program, kind, path):
    return subprocess.run([program, kind, path], text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env={**os.environ, "PATH": f"{pathlib.Path(program).parent}:{os.environ['PATH']}"}).stdout


def kernels(text, name):
    """kernel -> texts: one of the PTX, one for each GPU of the machine code."""
    parts, found = re.split(name, text), collections.defaultdict(list)
    for kernel, body in zip(parts[1::2], parts[2::2]):
        found[kernel].append(body)
    return found


def complaints(ptx, sass):
    for asked, done in SAME.items():
        wanted, there = len(re.findall(asked, ptx)), len(re.findall(done, sass))
        if wanted != there:
            yield f"{wanted} of {asked} in the PTX, {there} of {done} in the machine code"
    if LOCAL.search(sass):
        yield "local memory is used"


def main():
    program = tool(sys.argv[1])
    if program is None:
        print("NOT RUN: no cuobjdump, neither beside nvcc nor on PATH: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
        sys.exit(77)
    assert list(complaints("wgmma.fence", "WARPGROUP.ARRIVE;\nSTL [R1]")) == ["local memory is used"]
    assert len(list(complaints("mma.sync mma.sync", "HMMA.16816 R1"))) == 1
    failed, seen = False, 0
    for path in filter(lambda path: path.endswith(".cu.o"), sys.argv[2].split(":")):
        asked = kernels(said(program, "-ptx", path), r"\.entry (\w+)\(")
        for kernel, bodies in kernels(said(program, "-sass", path), r"Function : (\w+)").items():
            for body in bodies:
                seen += 1
                for complaint in complaints(asked[kernel][0], body):
                    failed = True
                    print(f"{kernel}: {complaint}")
    print(f"{seen} versions of kernels")
    sys.exit(failed or seen == 0)


if __name__ == "__main__":
    main()
