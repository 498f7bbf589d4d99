#!/usr/bin/env python3
"""What ptxas makes of Hopper's kernels: no spilled registers, no stack, no products of the tensor cores put one after another
(it repairs such code, says so in passing, and the kernel is right and slow). Prints registers and shared memory. Of the
portable ones, for sm_80 and sm_90, spills and stacks are all that it could say, and they do not build with them.
Usage: ptxas_test.py NVCC ROOT HOPPER PORTABLE, the last two sources below ROOT/kernels, a colon between them"""
import pathlib
import re
import subprocess
import sys
import tempfile

# Of a kernel: "16 bytes stack frame, 12 bytes spill stores, 48 bytes spill loads".
MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
# What is repaired: waits and fences put in, wgmma serialised, setmaxnreg ignored.
REPAIR = re.compile(r"\((C75\d\d)\)[^\n]*")


def complaints(text):
    found = [match[0] for match in REPAIR.finditer(text)]
    return found + [match[0] for match in MEMORY.finditer(text) if set(match.groups()) != {"0"}]


def table(text):
    for name, used in re.findall(r"Compiling entry function '(\w+)'.*?Used ([^\n]*)", text, re.DOTALL):
        print(f"{used:60} {name}")


def compiled(nvcc, root, source):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([nvcc, "-std=c++20", "-gencode", "arch=compute_90a,code=sm_90a", "-I", root, "-cubin", "-Xptxas", "-v",
                               source, "-o", pathlib.Path(folder) / "kernel.cubin"], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
    if done.returncode != 0:
        sys.exit(f"{source}\n{done.stdout}")
    return done.stdout


def check_itself():
    fine = "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info    : Used 168 registers"
    assert complaints(fine) == []
    assert len(complaints(fine + "\n    8 bytes stack frame, 0 bytes spill stores, 8 bytes spill loads")) == 1
    assert len(complaints("ptxas info    : (C7512) Potential Performance Loss: wgmma.mma_async instructions are serialized")) == 1


def main():
    nvcc, root = sys.argv[1], pathlib.Path(sys.argv[2])
    check_itself()
    failed = False
    hopper, portable = ({name for name in names.split(":") if name.endswith(".cu")} for names in sys.argv[3:])
    for source in sorted(root.glob("kernels/**/*.cu")):
        name = str(source.relative_to(root / "kernels"))
        if name not in hopper | portable:
            sys.exit(f"{name} is in neither library of kernels/CMakeLists.txt")
        if name in portable:
            continue
        text = compiled(nvcc, root, source)
        table(text)
        for complaint in complaints(text):
            failed = True
            print(f"{source.relative_to(root)}: {complaint}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
