#!/usr/bin/env python3
"""The public headers' documentation: doxygen says nothing of it, every header has a page that begins with what it is, and a
fault is found. Usage: documentation_test.py [unittest arguments]; exit code 77 where doxygen is not installed."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]


def document(folder, source=ROOT / "include"):
    """Exit code and words of doxygen, which writes XML into `folder`: for a program, and faster than pages."""
    settings = f"@INCLUDE = cmake/Doxyfile\nINPUT = {source}\nOUTPUT_DIRECTORY = {folder}\nGENERATE_HTML = NO\nGENERATE_XML = YES\n"
    done = subprocess.run(["doxygen", "-"], cwd=ROOT, input=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=100)
    return done.returncode, done.stdout


class Documentation(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.dir = pathlib.Path(temporary.name)

    def test_there_are_no_warnings_and_every_header_says_what_it_is(self):
        code, said = document(self.dir)
        self.assertEqual((code, said), (0, ""))
        described = set()
        for page in (self.dir / "xml").glob("*_8hpp.xml"):
            header = ElementTree.parse(page).find("compounddef")
            if "".join(header.find("detaileddescription").itertext()).strip() + \
                    "".join(header.find("briefdescription").itertext()).strip():
                described.add(header.find("location").get("file"))
        headers = {str(path.relative_to(ROOT)) for path in (ROOT / "include").rglob("*.hpp")}
        options = {name for name in headers if name.endswith("options.hpp")}  # keys, whose words stand at each
        self.assertEqual(sorted(headers - options - {f"include/{name}" if not name.startswith("include/") else name
                                                     for name in described}), [])

    def test_a_fault_is_found(self):
        (self.dir / "planted.hpp").write_text("#pragma once\n// core: planted.\n\n/// \\param y is none.\nvoid f(int x);\n")
        code, said = document(self.dir, self.dir / "planted.hpp")
        self.assertNotEqual(code, 0)
        self.assertRegex(said, re.compile("argument 'y'"))


if __name__ == "__main__":
    if not shutil.which("doxygen"):
        print("SKIPPED: doxygen is not installed (launch/setup.sh installs it)")
        sys.exit(77)
    unittest.main(verbosity=2)
