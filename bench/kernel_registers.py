#!/usr/bin/env python3
"""Registers, stack and shared memory of our kernels, the least and the most of a kernel's versions, for every GPU that they
are built for, read out of the machine code in a library or an object of the build: as a table for RESULTS.md. Ends with 1
where a version has a stack, which is where registers spill to, and names it. Dynamic shared memory is the launch's and
not in it. sm_90 is Hopper's own, sm_90a, too.
Usage: kernel_registers.py build/release/lib/libfpdist_cuda.so"""
import collections
import pathlib
import re
import struct
import subprocess
import sys

CUDA_MACHINE = 190  # EM_CUDA
FRAME_SIZE, REGISTERS = 0x11, 0x2F  # attributes of .nv.info: of a function, named by its symbol


class Code:
    """The machine code for one GPU: an ELF file that begins at `at` of `data`."""

    def __init__(self, data, at):
        self.data, self.at = data, at
        flags = struct.unpack_from("<I", data, at + 48)[0]
        self.gpu = f"sm_{flags >> 8 & 0xFF}"
        table = at + struct.unpack_from("<Q", data, at + 40)[0]
        each, count, names = struct.unpack_from("<3H", data, at + 58)
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * each) for i in range(count)]
        self.names = at + self.sections[names][4]

    def text(self, place):
        return self.data[place:self.data.index(b"\0", place)].decode()

    def section(self, wanted):
        """Where sections of that name, or that begin with it where it ends with a point, lie: name, offset, size."""
        for entry in self.sections:
            name = self.text(self.names + entry[0])
            if name == wanted or wanted.endswith(".") and name.startswith(wanted):
                yield name, self.at + entry[4], entry[5]

    def symbols(self):
        (_, table, size), = self.section(".symtab")
        (_, strings, _), = self.section(".strtab")
        return [self.text(strings + struct.unpack_from("<I", self.data, table + at)[0]) for at in range(0, size, 24)]

    def attributes(self):
        """kernel -> {attribute: value}"""
        found, symbols = collections.defaultdict(dict), self.symbols()
        for _, at, size in self.section(".nv.info"):
            end = at + size
            while at < end:
                form, attribute, length = struct.unpack_from("<BBH", self.data, at)
                at += 4
                if form != 4:  # its value is where the length would be
                    continue
                if attribute in (FRAME_SIZE, REGISTERS):
                    symbol, value = struct.unpack_from("<II", self.data, at)
                    found[symbols[symbol]][attribute] = value
                at += length
        return found

    def kernels(self):
        shared = {name[len(".nv.shared."):]: size for name, _, size in self.section(".nv.shared.")}
        kernels = {name[len(".nv.constant0."):] for name, _, _ in self.section(".nv.constant0.")}  # their arguments
        for kernel, own in self.attributes().items():
            if kernel in kernels:
                yield kernel, own.get(REGISTERS, 0), own.get(FRAME_SIZE, 0), shared.get(kernel, 0)


def codes(data):
    at = data.find(b"\x7fELF\x02")
    while at >= 0:
        if struct.unpack_from("<H", data, at + 18)[0] == CUDA_MACHINE:
            yield Code(data, at)
        at = data.find(b"\x7fELF\x02", at + 1)


def plain_name(mangled):
    """The kernel's name and what it was made for, without namespaces, file and arguments."""
    name = subprocess.run(["c++filt", mangled], text=True, stdout=subprocess.PIPE, check=True).stdout.strip()
    name = re.sub(r"^void |fpdist::kernels::|\(anonymous namespace\)::|_GLOBAL__N__\w+::|\((?:int|bool|long)\)", "", name)
    return name.split("(", 1)[0]


def span(values):
    least, most = min(values), max(values)
    return str(least) if least == most else f"{least} to {most}"


def main():
    versions, has_stack = collections.defaultdict(lambda: collections.defaultdict(list)), False
    for code in codes(pathlib.Path(sys.argv[1]).read_bytes()):
        for kernel, registers, stack, shared in code.kernels():
            name = plain_name(kernel)
            versions[name.split("<", 1)[0]][code.gpu].append((registers, stack, shared))
            if stack > 0:
                has_stack = True
                print(f"{name} on {code.gpu} has a stack of {stack} bytes", file=sys.stderr)
    if not versions:
        sys.exit(f"{sys.argv[1]} holds no machine code of kernels")
    gpus = sorted({gpu for row in versions.values() for gpu in row})
    print("| kernel | versions | " + " | ".join(f"{gpu}: registers, stack, static shared" for gpu in gpus) + " |")
    print("|---" * (len(gpus) + 2) + "|")
    for name, row in sorted(versions.items()):
        columns = [", ".join(span(column) for column in zip(*row[gpu])) if gpu in row else "" for gpu in gpus]
        print(f"| `{name}` | {max(map(len, row.values()))} | " + " | ".join(columns) + " |")
    sys.exit(has_stack)


if __name__ == "__main__":
    main()
