#!/usr/bin/env python3
"""The loops of FPDIST_CPU_CLONES with an exponential or a comparison are vectorised: in the clone for AVX-512 each of
them multiplies 8 float32 or more at once.

usage: vectorised_test.py LIBFPDIST; 77 where there are no such clones, no symbols or no binutils."""
import re
import shutil
import subprocess
import sys

# As c++filt writes them; double's go through libm's exp, which is not vectorised.
LOOPS = ["swiglu_loop(float const*", "swiglu_loop(unsigned short const*", "swiglu_backward_loop(float const*",
         "swiglu_backward_loop(unsigned short const*", "row_statistics(float const*", "row_gradient(float const*, long, "
         "fpdist::kernels::RowTerms<float> const&, float*)", "row_gradient(float const*, long, "
         "fpdist::kernels::RowTerms<float> const&, unsigned short*)"]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(library):
    if not shutil.which("nm") or not shutil.which("objdump"):
        print("SKIPPED: no binutils")
        return 77
    clones = [line.split(maxsplit=3) for line in run("nm", "-SC", library).splitlines() if "[clone .avx512f]" in line]
    if not clones:
        print("SKIPPED: this library has no clones, or no symbols")
        return 77
    bad = 0
    for loop in LOOPS:
        found = [(int(at, 16), int(size, 16)) for at, size, _, name in clones if name.startswith("fpdist::kernels::" + loop)]
        counts = [len(re.findall(r"\bv(?:mul|fn?m(?:add|sub)\d+)ps\b[^\n]*%[yz]mm",
                                 run("objdump", "-d", "--no-show-raw-insn", f"--start-address={at}", f"--stop-address={at + size}",
                                     library))) for at, size in found]
        print(f"{loop}: {counts}")
        bad += len(counts) != 1 or counts[0] < 7  # the exponential's polynomial alone has so many
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
