#!/usr/bin/env python3
"""gpu_check.sh as far as a machine without a GPU goes: what it says there, and everything it does, on an emulated one.
Usage: gpu_check_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import BIN, LIMIT, ROOT, Folder, environment, main

LAUNCH = ROOT / "launch"
sys.path.insert(0, str(LAUNCH))
from gpu_report import report
from gpu_tests import describe

PARTS = ["tests", "sanitizer", "same_bits", "curve", "gemm", "pointwise", "attention", "decode", "step", "comm", "peers"]


def run(*words, **settings):
    done = subprocess.run([str(word) for word in words], env={**environment(), **settings}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
    return done.returncode, done.stdout


class DryRun(Folder):
    def check(self, *arguments, code=0):
        given, output = run("bash", LAUNCH / "gpu_check.sh", "--emulated", BIN.parent / "emulated_gpu/libcuda.so.1",
                            "--build", BIN.parent, "--out", self.dir / "results", *arguments)
        self.assertEqual(given, code, output)
        return json.loads((self.dir / "results/gpu-emulated.json").read_text()), output

    def test_every_part_runs_on_an_emulated_gpu(self):
        data, _ = self.pairs(8)
        found, output = self.check("--pairs", data, "--tests", "comm_nccl_test")
        self.assertEqual([part["part"] for part in found["parts"]], PARTS)
        for part in found["parts"]:
            self.assertEqual(part["state"], "skipped" if part["part"] in ("sanitizer", "peers") else "passed", output)
        self.assertEqual({line["bench"] for line in found["bench"]}, {"gemm", "pointwise", "attention", "decode", "step", "comm"})
        kernels = {line["kernel"]: line for line in found["bench"] if line["bench"] == "pointwise"}
        self.assertLessEqual({"swiglu", "rms_norm_back", "rotary_q", "logprob", "logprob_back"}, set(kernels))
        for name, line in kernels.items():  # bfloat16: a rounding of the largest element
            self.assertLess(line["difference"], 1e-2, name)
        table = (self.dir / "results/gpu-emulated.md").read_text()
        for heading in ("Parts", "Linear layers", "Attention of a step that decodes", "Forward and backward", "Collectives"):
            self.assertIn(f"## {heading}", table)
        self.assertIn("no --peers", table)

    def test_a_part_that_fails_does_not_stop_the_others(self):
        nonsense = self.write("nonsense.jsonl", "{}\n")
        found, output = self.check("--pairs", nonsense, "--only", "curve,comm", code=1)
        self.assertEqual([(part["part"], part["state"]) for part in found["parts"]], [("curve", "FAILED"), ("comm", "passed")])
        self.assertIn("nonsense.jsonl:1", output)
        peer = self.write("peer.py", "import time; time.sleep(60)\n")
        # A Python that has torch, as far as anybody asks.
        python = self.write("python", "#!/bin/sh\n[ \"$1\" = -c ] || exec sleep 60\n")
        python.chmod(0o755)
        os.environ["FPDIST_PYTHON"] = str(python)
        self.addCleanup(os.environ.pop, "FPDIST_PYTHON")
        found, _ = self.check("--only", "peers", "--peers", peer, "--limit", 2, code=1)
        self.assertEqual(found["parts"][0]["state"], "too long")


class CheckScripts(Folder):
    def test_no_gpu_is_one_line_and_exit_code_2(self):
        code, output = run("bash", LAUNCH / "gpu_check.sh", PATH="/usr/bin:/bin")
        if os.path.exists("/dev/nvidiactl"):
            self.skipTest("there is a GPU here")
        self.assertEqual(code, 2, output)
        self.assertRegex(output, r"^gpu_check: no NVIDIA GPU .*\n$")

    def test_wrong_options_are_exit_code_2(self):
        for arguments, words in ((["--cpus"], "unknown option --cpus"), (["--pairs", "nowhere"], "no file")):
            code, output = run("bash", LAUNCH / "gpu_check.sh", *arguments)
            self.assertEqual(code, 2, output)
            self.assertIn(words, output)

    def test_a_list_of_tests_runs_to_its_end(self):
        entry = dict(arguments=[], ranks=1, environment={}, timeout=20, small=False)
        script = lambda name, text: self.write(name, "#!/bin/sh\n" + text).chmod(0o755)
        script("good", "exit 0\n"), script("bad", "echo what was wrong; exit 3\n"), script("slow", "exec sleep 60\n")
        script("other", "exit 77\n"), script("asks", '[ "$WORD" = here ] && [ "$1" = one ]\n')
        tests = [dict(entry, name="a good one", program="good"), dict(entry, name="a bad one", program="bad"),
                 dict(entry, name="a slow one", program="slow", timeout=1), dict(entry, name="another", program="other"),
                 dict(entry, name="one that asks", program="asks", arguments=["one"], environment={"WORD": "here"})]
        def loop(tests, *options):
            listed = self.write("list", "".join(json.dumps(test) + "\n" for test in tests))
            return run(sys.executable, LAUNCH / "run_gpu_tests.py", listed, "--programs", self.dir, *options)
        started = time.monotonic()
        code, output = loop(tests)
        self.assertLess(time.monotonic() - started, 30)
        self.assertEqual(code, 1)
        for words in ("1/5 a good one: passed", "2/5 a bad one: FAILED (3)", "what was wrong", "3/5 a slow one: too long",
                      "4/5 another: skipped", "5/5 one that asks: passed", "2 of 5 tests passed, 2 failed, 1 skipped"):
            self.assertIn(words, output)
        self.assertEqual(loop([tests[0], tests[4]])[0], 0)
        self.assertEqual(loop([tests[3]])[0], 77)
        self.assertEqual(loop([])[0], 1)
        script("sanitizer", 'while [ "${1#-}" != "$1" ]; do shift 2; done; echo under "$1"; "$@"; exit 9\n')
        code, output = loop([dict(tests[0], small=True), tests[4]], "--sanitizer", self.dir / "sanitizer")
        self.assertEqual(code, 1)
        self.assertIn("0 of 1 tests passed", output)  # the small one alone

    def test_ctests_words_become_a_list(self):
        build = pathlib.Path("/b")
        properties = [{"name": "LABELS", "value": ["gpu", "small"]}, {"name": "TIMEOUT", "value": 60.0},
                      {"name": "ENVIRONMENT", "value": ["OMP_NUM_THREADS=1", "NCCL_MAX_CTAS=4"]}]
        ranks = describe({"name": "x.np2", "command": ["/usr/bin/cmake", "-E", "env", "OMPI_ALLOW_RUN_AS_ROOT=1", "A=b", "/usr/bin/mpiexec",
                                                       "-np", "2", "/b/bin/x", "--all"], "properties": properties}, build)
        self.assertEqual(ranks, {"name": "x.np2", "program": "x", "path": "/b/bin/x", "arguments": ["--all"], "ranks": 2, "small": True,
                                 "environment": {"A": "b", "OMP_NUM_THREADS": "1", "NCCL_MAX_CTAS": "4"}, "timeout": 60.0})
        self.assertEqual(describe({"name": "y", "command": ["/b/bin/y"]}, build)["ranks"], 1)
        self.assertIsNone(describe({"name": "z", "command": ["/usr/bin/python3", "z.py"]}, build))

    def test_this_builds_list_has_small_ones_for_the_sanitizer(self):
        if not (BIN.parent / "lib/libfpdist_cuda.so").exists():
            self.skipTest("libfpdist_cuda was not built")
        done = subprocess.run([sys.executable, LAUNCH / "gpu_tests.py", BIN.parent], env=environment(), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 0, done.stderr)
        tests = {test["name"]: test for test in map(json.loads, done.stdout.splitlines())}
        laws = tests["kernels_operators_cuda_test"]
        self.assertEqual((laws["program"], laws["arguments"]), ("kernels_operators_test", ["--device", "cuda"]))
        small = {name: test for name, test in tests.items() if test["small"]}
        self.assertLessEqual({"kernels_operators_cuda_test", "kernels_gpu_twins_test", "trainer_gpu_small_test"}, set(small))
        self.assertEqual({test["ranks"] for test in small.values()}, {1})
        self.assertTrue(small["trainer_gpu_small_test"]["arguments"][0].startswith("--gtest_filter="))
        self.assertFalse(tests["trainer_gpu_test"]["small"])  # the whole of it would take hours there

    def test_runs_are_compared_to_the_bit_or_by_curve(self):
        def make(name, losses, weights=b"w", **more):
            folder = self.dir / name
            (folder / "final").mkdir(parents=True)
            (folder / "final/model.safetensors").write_bytes(weights)
            (folder / "metrics.jsonl").write_text("".join(
                json.dumps({"step": i + 1, "loss": loss, "seconds": id(name) + i, **more}) + "\n" for i, loss in enumerate(losses)))
            return folder
        one = make("one", [0.7, 0.6])
        compare = lambda what, a, b, *limit: run(sys.executable, LAUNCH / "compare_runs.py", what, a, b, *limit)
        self.assertEqual(compare("same", one, make("again", [0.7, 0.6]))[0], 0)
        self.assertIn("weights differ", compare("same", one, make("weights", [0.7, 0.6], b"v"))[1])
        code, output = compare("same", one, make("grown", [0.7, 0.6001]))
        self.assertEqual((code, "step 2 differs in loss" in output), (1, True), output)
        self.assertEqual(compare("same", one, make("longer", [0.7, 0.6, 0.5]))[0], 1)
        self.assertEqual(compare("curve", one, self.dir / "grown")[0], 0)
        self.assertEqual(compare("curve", one, self.dir / "grown", "--limit", "1e-5")[0], 1)
        self.assertEqual(compare("curve", one, self.dir / "longer")[0], 1)

    def test_peers_stand_in_the_same_table(self):
        text = report({"machine": {"gpus": "a GPU"}, "date": "today", "parts": [], "bench": [
            dict(bench="step", prompt=8, completion=4, group=2, layers=4, shared_seconds=0.5, unshared_seconds=1.0, speedup=2.0, bound=2.1)],
            "peers": [dict(part="layer", arm="packed", shape="T1", ms=900.0, speedup=1.0), dict(part="attention", arm="flex", shape="S", fwd_ms=1.0, bwd_ms=2.5)]})
        self.assertIn("| fpdist shared | P8 R4 G2 | 4 | 500 | 2 | 2.1 |", text)
        self.assertIn("| peer packed | T1 |  | 900 | 1 |  |", text)
        self.assertIn("| attention | flex | S | 3.5 |", text)


if __name__ == "__main__":
    main()
