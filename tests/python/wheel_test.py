"""What make_wheel.py packs, and that it imports from where nothing else of the project is. argv: the build folder."""

import email
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zipfile

from support import skip_without

(torch,) = skip_without("torch")

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv.pop(1))


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.wheel = cls.make(cls.folder.name)

    @staticmethod
    def make(folder):
        made = subprocess.run([sys.executable, ROOT / "src/python/make_wheel.py", BUILD / "python", folder], check=True,
                              capture_output=True, text=True).stdout
        return pathlib.Path(made.strip())

    def test_its_name_and_words(self):
        name, version, tag = self.wheel.stem.split("-", 2)
        self.assertEqual(name, "fpdist")
        self.assertRegex(tag, r"py3-none-manylinux_2_\d+_\w+")
        archive = zipfile.ZipFile(self.wheel)
        metadata = email.message_from_bytes(archive.read(f"fpdist-{version}.dist-info/METADATA"))
        self.assertEqual((metadata["Name"], metadata["Version"]), ("fpdist", version))
        self.assertIn("torch>=2.11,<2.12", metadata.get_all("Requires-Dist"))
        for file in ("__init__.py", "__init__.pyi", "py.typed", "libfpdist_operators.so", "hugging_face.py"):
            self.assertIn(f"fpdist/{file}", archive.namelist())

    def test_the_same_build_gives_the_same_bytes(self):
        with tempfile.TemporaryDirectory() as again:
            self.assertEqual(self.make(again).read_bytes(), self.wheel.read_bytes())

    def test_its_library_names_no_folder_and_needs_no_mpi(self):
        with tempfile.TemporaryDirectory() as folder:
            library = zipfile.ZipFile(self.wheel).extract("fpdist/libfpdist_operators.so", folder)
            dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
        self.assertNotRegex(dynamic, "RPATH|RUNPATH|libmpi|libyaml|libsimdjson")

    def test_it_imports_from_another_place(self):
        import importlib.metadata  # pip does what extracting does: nothing in it has to be compiled or moved

        with tempfile.TemporaryDirectory() as folder:
            zipfile.ZipFile(self.wheel).extractall(folder)
            (found,) = importlib.metadata.distributions(path=[folder])
            environment = {**os.environ, "PYTHONPATH": f"{folder}:{pathlib.Path(torch.__file__).parents[1]}"}
            said = subprocess.run(
                [sys.executable, "-c", "import fpdist, torch; print(fpdist.__version__, fpdist.__file__);"
                 "q = torch.ones(1, 1, 8); print(fpdist.tree_attention(q, q, q, torch.tensor([1], dtype=torch.int32)).sum())"],
                check=True, capture_output=True, text=True, cwd=folder, env=environment).stdout
            self.assertIn(f"{found.version} {folder}/fpdist/__init__.py", said)
            self.assertIn("tensor(8.)", said)


if __name__ == "__main__":
    unittest.main()
