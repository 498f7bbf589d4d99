#!/usr/bin/env python3
"""fpdist as others have it: installed and moved, as a folder of somebody's project, as packages.
Usage: install_test.py BUILD_DIR CMAKE TORCH_DIR [unittest arguments]"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD, CMAKE, TORCH = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], pathlib.Path(sys.argv[3])
LIMIT = 240
sys.path.insert(0, str(ROOT / "tests/launch"))
import tiny_model  # noqa: E402


def run(*line, code=0, **settings):
    """Output of a command that must end with `code`."""
    env = dict(os.environ, OMP_NUM_THREADS="1", OMPI_MCA_ess_singleton_isolated="1")
    done = subprocess.run([str(word) for word in line], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=LIMIT, **settings)
    assert done.returncode == code, f"{line} ended with {done.returncode}, not {code}:\n{done.stdout}"
    return done.stdout


def blocks(kind):
    """The fenced blocks of examples/README.md's part on building."""
    page = (ROOT / "examples/README.md").read_text()
    page = page[page.index("## Building against"):]
    return re.findall(rf"^```{kind}\n(.*?)^```$", page, re.M | re.S)


def python_without_torch(folder):
    """An interpreter that find_package may ask, and that has no torch."""
    script = folder / "python3"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -I -S \"$@\"\n")
    script.chmod(0o755)
    return script


def older_torch(folder):
    """What is taken for torch's package, of another version than fpdist was built with."""
    for name in ("include/ATen/core/Tensor.h", "lib/libtorch_cpu.so"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    (folder / "version.py").write_text("__version__ = '2.9.1+cu128'\n")
    return folder


def needed(binary):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", binary))


class InTemporaryFolder(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.dir = pathlib.Path(temporary.name).resolve()
        cls.python = python_without_torch(cls.dir)

    def trains(self, prefix):
        """The programs below `prefix` find their library, torch, the text worker and what that imports."""
        home = self.dir / "home"
        shutil.rmtree(home, ignore_errors=True)
        tiny_model.make(home / "model")
        rows = [{"prompt": f"{i} plus {i} is", "completion": f" {i + i}"} for i in range(8)]
        (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (home / "run.yaml").write_text(
            "method: sft\nmodel: { path: model }\ndata: { path: [rows.jsonl] }\n"
            "train: { groups_per_step: 4, max_steps: 1, output_dir: out }\n")
        self.assertIn("sharing", run(prefix / "bin/fpdist_plan", "--config", "run.yaml", cwd=home))
        run(prefix / "bin/fpdist_train", "run.yaml", cwd=home)
        self.assertTrue((home / "out/final/model.safetensors").exists())


class Installed(InTemporaryFolder):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lines = blocks("")[0].splitlines()
        cls.types(cls.lines[0], "first")
        cls.prefix = cls.dir / "elsewhere/and_renamed"
        cls.prefix.parent.mkdir()
        (cls.dir / "first").rename(cls.prefix)

    @classmethod
    def types(cls, line, prefix):
        """A line of the page, with other places."""
        for place, here in (("build/release", BUILD), ("$HOME/fpdist", cls.dir / prefix), ("build/examples", cls.dir / "whole")):
            line = line.replace(place, str(here))
        return run("sh", "-c", f"export PATH={pathlib.Path(shutil.which(CMAKE)).parent}:$PATH; {line}", cwd=ROOT)

    def configure(self, name, *arguments, code=0, source=None):
        return run(CMAKE, "-S", source or self.prefix / "share/fpdist/examples", "-B", self.dir / name,
                   f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DCMAKE_BUILD_TYPE=Release", *arguments, code=code)

    @contextlib.contextmanager
    def without_link(self):
        """As where nobody has said where torch lies."""
        link = self.prefix / "lib/fpdist/torch"
        link.rename(self.dir / "torch_link")
        try:
            yield
        finally:
            (self.dir / "torch_link").rename(link)

    def test_the_planner_is_built_and_run_without_torch(self):
        with self.without_link():
            self.configure("planning", "-DPLANNING_ONLY=ON", f"-DPython3_EXECUTABLE={self.python}")
            run(CMAKE, "--build", self.dir / "planning")
        program = self.dir / "planning/example_planner"
        self.assertRegex(run(program), r"sharing 2\.\d+x[\s\S]*stage 0: F0 ")
        self.assertFalse([name for name in needed(program) if re.search("torch|mpi|fpdist", name)])

    def test_the_whole_library_is_built_against_and_run(self):
        configure, build = self.lines[1:]
        self.types(configure, "elsewhere/and_renamed")
        self.types(build + " --target example_tree_attention", "")
        program = self.dir / "whole/example_tree_attention"
        self.assertIn("the same, by ", run(program))
        self.assertIn("libfpdist.so", needed(program))

    def test_a_project_of_a_few_lines_finds_the_torch_that_python_has(self):
        project = self.dir / "mine"
        project.mkdir()
        (project / "CMakeLists.txt").write_text(blocks("cmake")[0])
        shutil.copy(ROOT / "examples/tree_attention.cpp", project / "mine.cpp")
        other = self.dir / "python_with_torch"
        other.write_text(f"#!/bin/sh\necho {TORCH}\n")
        other.chmod(0o755)
        with self.without_link():
            self.configure("mine_build", f"-DPython3_EXECUTABLE={self.python}", source=project, code=1)
            self.configure("mine_build", f"-DPython3_EXECUTABLE={other}", source=project)
        self.assertIn(str(TORCH.resolve()), run(CMAKE, "--build", self.dir / "mine_build", "--", "-n"))

    def test_who_cannot_have_it_is_told_why(self):
        other = older_torch(self.dir / "other/torch")
        self.assertRegex(self.configure("wrong", f"-DFPDIST_TORCH_DIR={other}", code=1), r"built with\s+torch\s+2\.11\.0")
        self.assertRegex(self.configure("wrong", f"-DFPDIST_TORCH_DIR={self.dir}/none", code=1), r"there\s+is\s+none\s+in")
        foreign = self.dir / "foreign"
        foreign.mkdir()
        for before, wanted, words in (
                ("", "0.3", "version: 0.2.0"), ("", "0.1", "version: 0.2.0"),
                ("", "0.2 COMPONENTS trainer", r"has\s+no\s+component\s+trainer"),
                ("set(CMAKE_FIND_LIBRARY_PREFIXES none)", "0.2 COMPONENTS planning", "libxxhash-dev")):
            (foreign / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.24)\nproject(foreign LANGUAGES CXX)\n"
                                                    f"{before}\nfind_package(fpdist {wanted} CONFIG REQUIRED)\n")
            self.assertRegex(self.configure("refused", code=1, source=foreign), words)

    def test_programs_run_from_where_they_were_moved_to(self):
        self.trains(self.prefix)
        self.assertIn("--train.seed", run(self.prefix / "bin/fpdist_train", "--help"))

    def test_nothing_names_the_tree_that_it_came_from(self):
        here = {str(ROOT), str(BUILD), str(self.dir / "first"), str(TORCH.resolve()), str(TORCH)}
        for file in self.prefix.rglob("*"):
            if file.is_symlink() or not file.is_file() or re.search("share/fpdist/text/(packages|tables)/", str(file)):
                continue
            if file.read_bytes()[:4] == b"\x7fELF":
                text = run("readelf", "-d", file)
            elif file.suffix == ".a":
                continue
            else:
                text = file.read_text()
            self.assertEqual([name for name in here if name in text], [], file)

    def test_headers_configs_and_licence_are_there(self):
        headers = sorted(path.relative_to(ROOT / "include") for path in (ROOT / "include").rglob("*.hpp"))
        self.assertEqual(headers, sorted(path.relative_to(self.prefix / "include")
                                         for path in (self.prefix / "include").rglob("*") if path.is_file()))
        for name in ("share/fpdist/configs/quickstart.yaml", "share/fpdist/configs/costs/llama3-8b.yaml",
                     "share/fpdist/text/text_worker.py", "share/doc/fpdist/LICENSE"):
            self.assertTrue((self.prefix / name).is_file(), name)
        self.assertEqual((BUILD / "lib/libfpdist_cuda.so").exists(), (self.prefix / "lib/libfpdist_cuda.so").exists())

    def test_examples_are_short(self):
        for file in (self.prefix / "share/fpdist/examples").glob("*.cpp"):
            self.assertLess(len(file.read_text().splitlines()), 100, file)


class Subdirectory(InTemporaryFolder):
    def test_a_folder_without_torch_is_refused(self):
        said = run(CMAKE, "-S", ROOT / "tests/install/subdirectory", "-B", self.dir / "none", f"-DFPDIST_SOURCE={ROOT}",
                   f"-DFPDIST_TORCH_DIR={self.dir}", "-DFPDIST_CUDA=OFF", code=1)
        self.assertRegex(said, rf"no\s+torch\s+in\s+{self.dir}:\s+run\s+launch/setup.sh")

    def test_a_foreign_project_keeps_its_own_settings(self):
        build = self.dir / "build"
        run(CMAKE, "-S", ROOT / "tests/install/subdirectory", "-B", build, f"-DFPDIST_SOURCE={ROOT}",
            f"-DFPDIST_TORCH_DIR={TORCH}", "-DFPDIST_CUDA=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
        commands = {pathlib.Path(entry["file"]).relative_to(ROOT).as_posix(): entry["command"]
                    for entry in json.loads((build / "compile_commands.json").read_text())
                    if pathlib.Path(entry["file"]).is_relative_to(ROOT)}
        for name in ("src/core/words.cpp", "src/trainer/trainer.cpp", "examples/planner.cpp"):
            self.assertNotRegex(commands[name], "-Werror|ccache", name)
        self.assertFalse([name for name in commands if name.startswith(("tests/", "bench/", "src/main/"))])
        cache = (build / "CMakeCache.txt").read_text()
        self.assertRegex(cache, r"(?m)^CMAKE_BUILD_TYPE:STRING=$")
        self.assertFalse((build / "share").exists() or (build / "bin").exists())
        self.assertTrue((build / "fpdist/share/fpdist/text/text_worker.py").exists())
        # One source of each half, as that project compiles it.
        for name in ("src/core/words.cpp", "examples/planner.cpp"):
            run("sh", "-c", commands[name], cwd=build if name.startswith("examples") else build / "fpdist")


class Packages(InTemporaryFolder):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cpack = pathlib.Path(CMAKE).with_name("cpack")
        cls.generators = ["TGZ"] + ["DEB"] * bool(shutil.which("dpkg-shlibdeps") and shutil.which("file"))
        run(cpack, "--config", BUILD / "CPackConfig.cmake", "-G", ";".join(cls.generators), "-B", cls.dir / "packages")
        for file in (cls.dir / "packages").glob("fpdist*"):
            print(f"{file.name}: {file.stat().st_size / 2**20:.1f} MiB", flush=True)

    def unpacked(self, pattern):
        found = [path for path in (self.dir / "packages").glob(pattern) if path.is_file()]
        self.assertEqual(len(found), 1, found)
        folder = self.dir / found[0].suffix.lstrip(".")
        if found[0].suffix == ".gz":
            with tarfile.open(found[0]) as archive:
                archive.extractall(folder)
            return next(folder.iterdir()), ""
        run("dpkg-deb", "-R", found[0], folder)
        return folder / "usr", (folder / "DEBIAN/control").read_text()

    def links_torch_and_runs(self, prefix):
        link = prefix / "share/fpdist/link_torch.sh"
        self.assertFalse((prefix / "lib/fpdist/torch").is_symlink())
        self.assertIn("libtorch_cpu.so", run(prefix / "bin/fpdist_train", "--help", code=127))
        self.assertIn("no torch in", run("sh", link, self.dir, code=2))
        if not (self.dir / "older").exists():
            older_torch(self.dir / "older")
        self.assertIn("is torch 2.9.1, but fpdist was built with 2.11.0", run("sh", link, self.dir / "older", code=2))
        self.assertIn("no libfpdist.so in", run("sh", ROOT / "launch/link_torch.sh", TORCH, code=2))
        self.assertIn("fpdist/torch is", run("sh", link, TORCH))
        self.trains(prefix)

    def test_the_archive_is_an_installation(self):
        self.links_torch_and_runs(self.unpacked("fpdist-0.2.0-*.tar.gz")[0])

    def test_the_debian_package_depends_on_what_it_loads(self):
        if "DEB" not in self.generators:
            print("SKIPPED: dpkg-shlibdeps or file is not installed: no .deb was made", flush=True)
            self.skipTest("no dpkg-shlibdeps or no file")
        prefix, control = self.unpacked("fpdist_0.2.0_*.deb")
        depends = re.search(r"(?m)^Depends: (.*)$", control).group(1)
        for name in ("python3", "openmpi-bin", "libopenmpi3", "libyaml-cpp", "libsimdjson", "libboost-program-options", "libstdc++6"):
            self.assertIn(name, depends)
        for script in ("postinst", "prerm"):
            run("sh", "-n", prefix.parent / "DEBIAN" / script)
        self.links_torch_and_runs(prefix)


if __name__ == "__main__":
    unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
