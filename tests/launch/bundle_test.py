#!/usr/bin/env python3
"""The bundle on a host that has no MPI, no compiler and none of our libraries: a packed folder, an empty place, a clean
environment, and a PATH that holds a shell, a Python and a handful of tools.
Usage: bundle_test.py BIN_DIR MPIRUN [unittest arguments]"""
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

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import BIN, LIMIT, ROOT, main

TOOLS = ("bash", "sh", "env", "id", "sed", "grep", "sort", "dirname", "basename", "realpath", "mktemp", "mkdir", "rm", "cat",
         "cp", "date", "tail", "timeout", "python3")
TORCH = ROOT / ".deps/python"  # stands for the host's own Python packages
MOST_MIB = 72


class Bundle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.dir = pathlib.Path(temporary.name)
        packed = cls.dir / "fpdist.tar.gz"
        done = subprocess.run(["bash", ROOT / "launch/bundle.sh", "--build", BIN.parent, packed], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stdout
        print(done.stdout, end="", flush=True)
        with tarfile.open(packed) as archive:
            archive.extractall(cls.dir / "elsewhere")
        cls.bundle = cls.dir / "elsewhere/fpdist"
        tools = cls.dir / "tools"
        tools.mkdir()
        for name in TOOLS:
            (tools / name).symlink_to(sys.executable if name == "python3" else shutil.which(name))
        home = cls.dir / "home"
        home.mkdir()
        cls.env = {"HOME": str(home), "PATH": str(tools), "PYTHONPATH": str(TORCH), "OMP_WAIT_POLICY": "passive"}
        rows = [{"prompt_ids": list(range(1, 20)), "chosen_ids": [30, 31 + i], "rejected_ids": [60 + i, 61]} for i in range(8)]
        (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (home / "run.yaml").write_text(
            "method: dpo\nmodel: { preset: tiny, device: cpu }\ndata: { path: [pairs.jsonl] }\n"
            "train: { groups_per_step: 4, max_steps: 2, output_dir: out, overwrite_output_dir: true }\n")

    def run_in(self, *words, code=0, **settings):
        done = subprocess.run([self.bundle / "run.sh", *map(str, words)], cwd=self.env["HOME"], env={**self.env, **settings},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout

    def losses(self):
        lines = (pathlib.Path(self.env["HOME"]) / "out/metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    def test_one_process_trains_without_mpi_on_the_host(self):
        self.assertIn("preset: \"tiny\"", self.run_in("fpdist_train", "run.yaml", "--print-config"))
        self.run_in("fpdist_train", "run.yaml")
        alone = self.losses()
        self.assertEqual(len(alone), 2)
        self.assertIn("mesh dp 2", self.run_in("mpirun", "-np", 2, "fpdist_train", "run.yaml"))
        for one, two in zip(alone, self.losses()):
            self.assertAlmostEqual(one, two, places=5)

    def test_nothing_of_ours_comes_from_the_machine_that_built_it(self):
        output = self.run_in("fpdist_bench", "--help", LD_DEBUG="libs", LD_DEBUG_OUTPUT=str(self.dir / "loader"))
        self.assertIn("scaling", output)
        loaded = {line.split()[-1] for file in self.dir.glob("loader.*")
                  for line in file.read_text(errors="replace").splitlines() if "calling init:" in line}
        self.assertTrue(any(path.endswith("lib/libfpdist.so") for path in loaded))
        build = str(BIN.parent.resolve())
        foreign = [path for path in loaded if path.startswith(build) or
                   re.search(r"/lib(mpi|open-|yaml|simdjson|boost|hwloc|event)", path) and not path.startswith(str(self.bundle))]
        self.assertEqual(foreign, [])
        for file in self.bundle.rglob("*"):
            if file.is_file() and file.read_bytes()[:4] == b"\x7fELF":
                paths = subprocess.run(["readelf", "-d", file], capture_output=True, text=True).stdout
                self.assertNotRegex(paths, r"\((RPATH|RUNPATH)\)", file)

    def test_a_gpu_that_is_not_there_is_a_usage_error(self):
        if not pathlib.Path("/dev/nvidiactl").exists():
            self.assertIn("error: ", self.run_in("fpdist_train", "run.yaml", "--model.device", "cuda", code=2))
            self.assertIn("driver", self.run_in("fpdist_bench", "comm", "--device", "cuda", code=2))

    def test_the_gpu_library_loads_without_a_gpu(self):
        library = self.bundle / "lib/libfpdist_cuda.so"
        if not library.exists():
            print("SKIPPED: libfpdist_cuda.so was not built: the bundle was tried without it", flush=True)
            self.skipTest("libfpdist_cuda.so was not built")
        toolkit = pathlib.Path("/usr/local/cuda/lib64")  # where the host's torch came without CUDA's own wheels
        loaded = self.run_in("python3", "-c", f"import ctypes; ctypes.CDLL('{library}'); print('it loads')",
                             LD_LIBRARY_PATH=str(toolkit) if toolkit.exists() else "")
        self.assertIn("it loads", loaded)

    def test_it_is_small_and_whole(self):
        files = [file for file in self.bundle.rglob("*") if file.is_file()]
        self.assertLess(sum(file.stat().st_size for file in files), MOST_MIB << 20)
        for name in ("run.sh", "gpu_check.sh", "gpu_tests.jsonl", "bin/fpdist_train", "bin/fpdist_bench", "mpi/bin/mpirun", "fault_test.py", "bin/comm_fault_program"):
            self.assertTrue((self.bundle / name).exists(), name)
        for line in (self.bundle / "gpu_tests.jsonl").read_text().splitlines():
            self.assertTrue((self.bundle / "bin" / json.loads(line)["program"]).exists(), line)

    def test_a_host_without_the_right_torch_is_told_so(self):
        self.assertIn("has no torch", self.run_in("fpdist_plan", "--help", PYTHONPATH="", FPDIST_TORCH=str(self.dir), code=2))
        other = self.dir / "site/torch"
        (other / "lib").mkdir(parents=True)
        (other / "lib/libtorch_cpu.so").touch()
        (other / "version.py").write_text("__version__ = '2.9.1+cu128'\n")
        self.assertIn("torch 2.9.1", self.run_in("fpdist_plan", "--help", PYTHONPATH=str(other.parent), code=2))
        (other / "version.py").write_text("__version__ = '2.11.0+cu128'\ncuda: Optional[str] = '12.8'\n")
        said = self.run_in("--print-environment", PYTHONPATH=str(other.parent))
        self.assertEqual("built for CUDA 12, this for CUDA 13" in said, (self.bundle / "lib/libfpdist_cuda.so").exists())

    def test_gpu_check_says_that_there_is_no_gpu(self):
        done = subprocess.run([self.bundle / "gpu_check.sh"], cwd=self.env["HOME"], env=self.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertRegex(done.stdout, r"^gpu_check: no NVIDIA GPU .*\n$")


class BundleRefusals(unittest.TestCase):
    def test_bundle_says_what_is_missing(self):
        with tempfile.TemporaryDirectory() as folder:
            for arguments, words in (([], "say where to"), (["--bild", folder], "unknown option --bild"),
                                     ([folder], "is there already"), (["--build", folder, folder + "/x"], "nothing is built")):
                done = subprocess.run(["bash", ROOT / "launch/bundle.sh", *arguments], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
                self.assertEqual(done.returncode, 2, done.stdout)
                self.assertIn(words, done.stdout)


if __name__ == "__main__":
    main()
