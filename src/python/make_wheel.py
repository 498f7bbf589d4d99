"""Packs <build>/python into a wheel. Usage: make_wheel.py BUILD/python OUTPUT_FOLDER; prints the wheel's path.

A wheel is a zip archive with three text files (PyPA's binary distribution format 1.0), so no build backend is needed. The
platform's tag asks for the glibc that the library needs, as objdump reads it. Times are fixed: the same build makes the
same bytes.
"""
import base64
import hashlib
import pathlib
import platform
import re
import subprocess
import sys
import zipfile

METADATA = """Metadata-Version: 2.1
Name: fpdist
Version: {version}
Summary: Attention over prefix trees, and Hugging Face models that compute shared prefixes once
License: {license}
Requires-Python: >=3.10
Requires-Dist: torch>={torch},<{next_torch}
Provides-Extra: transformers
Requires-Dist: transformers>=5; extra == "transformers"
Description-Content-Type: text/markdown

{description}"""
WHEEL = """Wheel-Version: 1.0
Generator: fpdist
Root-Is-Purelib: false
Tag: {tag}
"""


def platform_tag(library):
    symbols = subprocess.run(["objdump", "-T", library], check=True, capture_output=True, text=True).stdout
    needed = max(tuple(map(int, found)) for found in re.findall(r"\(GLIBC_(\d+)\.(\d+)", symbols))
    return f"py3-none-manylinux_{needed[0]}_{needed[1]}_{platform.machine()}"


def torch_of(source):
    """The torch that launch/setup.sh brings: the library is built against its headers and runs with its minor version."""
    version = re.search(r"torch_version=([\d.]+)", (source / "launch/setup.sh").read_text()).group(1)
    major, minor, _ = version.split(".")
    return f"{major}.{minor}", f"{major}.{int(minor) + 1}"


def make(folder, output):
    source = pathlib.Path(__file__).resolve().parents[2]
    version = re.search(r'"(.*)"', (folder / "fpdist/version.py").read_text()).group(1)
    tag = platform_tag(folder / "fpdist/libfpdist_operators.so")
    torch, next_torch = torch_of(source)
    info = f"fpdist-{version}.dist-info"
    licence = (source / "LICENSE").read_text()
    files = {f"fpdist/{file.name}": file.read_bytes() for file in sorted((folder / "fpdist").iterdir()) if file.is_file()}
    files[f"{info}/METADATA"] = METADATA.format(
        version=version, torch=torch, next_torch=next_torch, license="Apache-2.0",
        description=(source / "src/python/README.md").read_text()).encode()
    files[f"{info}/WHEEL"] = WHEEL.format(tag=tag).encode()
    files[f"{info}/licenses/LICENSE"] = licence.encode()
    record = f"{info}/RECORD"
    lines = [f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
             for name, data in files.items()]
    files[record] = ("\n".join([*lines, f"{record},,"]) + "\n").encode()
    output.mkdir(parents=True, exist_ok=True)
    wheel = output / f"fpdist-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return wheel


if __name__ == "__main__":
    print(make(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
