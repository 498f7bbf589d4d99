#!/usr/bin/env python3
"""fpdist_bench on CPU ranks: results that are right, tables that are whole, errors that say what to do.
Usage: bench_program_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import os
import pathlib
import random
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import Folder, command, main, run

USAGE, DATA, MODEL_FILES, DISK = 2, 3, 4, 7  # exit codes


class Bench(Folder):
    def bench(self, ranks, *arguments, code=0):
        given, output = run(command(ranks, arguments, program="fpdist_bench"))
        self.assertEqual(given, code, output)
        return output

    def lines(self, file):
        return [json.loads(line) for line in file.read_text().splitlines()]


class Comm(Bench):
    FACTOR = {"all_reduce": lambda n: 2 * (n - 1) / n, "all_gather": lambda n: (n - 1) / n,
              "reduce_scatter": lambda n: (n - 1) / n, "all_to_all": lambda n: (n - 1) / n,
              "broadcast": lambda n: 1, "send_receive": lambda n: 1}

    def test_every_collective_is_right_and_counted_as_nccl_tests_count(self):
        for ranks, dtype, size in ((1, "float32", 4), (4, "bfloat16", 2), (3, "float32", 4)):
            with self.subTest(ranks=ranks):
                file = self.dir / f"comm{ranks}.jsonl"
                output = self.bench(ranks, "comm", "--device", "cpu", "--from", "1K", "--to", "4K", "--iterations", 3,
                                    "--warmup", 1, "--dtype", dtype, "--json", file)
                lines = self.lines(file)
                self.assertEqual(len(output.splitlines()), 1 + len(lines), output)
                self.assertEqual([line["collective"] for line in lines],
                                 [name for name in self.FACTOR for _ in range(3)])
                for line in lines:
                    self.assertEqual((line["np"], line["nodes"], line["wrong"]), (ranks, 1, 0), line)
                    self.assertEqual(line["size"], line["count"] * size)
                    self.assertEqual(line["count"], [1024, 2048, 4096][lines.index(line) % 3] // size // ranks * ranks)
                    self.assertAlmostEqual(line["algbw"], line["size"] / line["time_us"] * 1e-3, places=9)
                    factor = self.FACTOR[line["collective"]](ranks)
                    self.assertAlmostEqual(line["busbw"], line["algbw"] * factor, places=9)

    def test_without_a_gpu_cuda_is_refused_and_auto_says_why(self):
        if not pathlib.Path("/dev/nvidiactl").exists():
            self.assertIn("driver", self.bench(0, "comm", "--device", "cuda", code=USAGE))
            self.assertIn("running on the CPU", self.bench(0, "comm", "--to", "1K", "--collectives", "broadcast"))

    def test_a_file_that_cannot_be_written_is_named(self):
        output = self.bench(0, "comm", "--device", "cpu", "--to", "1K", "--json", self.dir / "no/such/folder", code=DISK)
        self.assertIn("no/such/folder", output)
        self.assertIn("disk full", self.bench(0, "comm", "--device", "cpu", "--to", "1K", "--json", "/dev/full", code=DISK))

    def test_errors_name_option_and_cure(self):
        for arguments, words in ((["--collectives", "all_redcue"], "all_redcue is unknown"), (["--from", "1X"], "--from"),
                                 (["--from", "2K", "--to", "1K"], "--from is more than --to"), (["--form", "1"], "--form"),
                                 (["--dtype", "int8"], "--dtype"), (["--iterations", "0"], "--iterations"),
                                 (["stray"], "see --help"), (["--device", "tpu"], "tpu"), (["--transport", "pigeon"], "pigeon")):
            with self.subTest(arguments=arguments):
                self.assertIn(words, self.bench(0, "comm", *arguments, code=USAGE))


class Kernels(Bench):
    def test_pointwise_reports_every_kernel_and_agrees_with_aten(self):
        file = self.dir / "pointwise.jsonl"
        self.bench(0, "pointwise", "--device", "cpu", "--model", "small", "--rows", 16, "--rounds", 1, "--calls", 1, "--json", file)
        lines = {line["kernel"]: line for line in self.lines(file)}
        kernels = ["swiglu", "rms_norm", "rotary_q", "rotary_k", "head_norm"]
        self.assertLessEqual({name + back for name in kernels for back in ("", "_back")}, set(lines))
        for name, line in lines.items():
            self.assertLess(line["difference"], 1e-5, name)
            self.assertGreater(line["ratio"], 0)

    def test_attention_is_measured_on_a_gpu_only(self):
        for arguments, words in ((["--shapes", "16", "--heads", "2,1,64"], "on a GPU: --device cuda"), (["--shapes", "1,2"], "'1,2': 3 numbers"),
                                 (["--heads", "2"], "'2': 3 numbers"), (["--rounds", "0"], "--rounds"), (["--sm", "70"], "--sm must be 80")):
            with self.subTest(arguments=arguments):
                self.assertIn(words, self.bench(0, "attention", "--device", "cpu", *arguments, code=USAGE))

    def test_decoding_is_measured_on_a_gpu_only(self):
        for arguments, words in (([], "on a GPU: --device cuda"), (["--shapes", "8,2,3,2,4"], "'8,2,3,2,4': 6 numbers"),
                                 (["--shapes", "8,2,3,2,5,4"], "5 rows of a completion, but room for 4"), (["--calls", "0"], "--calls")):
            with self.subTest(arguments=arguments):
                self.assertIn(words, self.bench(0, "decode", "--device", "cpu", *arguments, code=USAGE))

    def test_gemm_reports_three_products_a_shape(self):
        file = self.dir / "gemm.jsonl"
        self.bench(0, "gemm", "--device", "cpu", "--shapes", "64,96", "48,32", "--rows", 128, "--rounds", 2, "--calls", 1,
                   "--json", file)
        lines = self.lines(file)
        self.assertEqual([(line["product"], line["in"], line["out"]) for line in lines],
                         [(p, *s) for s in ((64, 96), (48, 32)) for p in ("forward", "dx", "dw")])
        for line in lines:
            self.assertGreater(line["ratio"], 0)
            self.assertAlmostEqual(line["tflops"], 2e-9 * 128 * line["in"] * line["out"] / line["ours_ms"], places=9)

    def test_a_rank_has_the_threads_that_it_is_given_or_its_share_of_the_cores(self):
        cores = len(os.sched_getaffinity(0))
        for given, threads in (("3", 3), ("", cores)):
            file = self.dir / f"threads{given}.jsonl"
            code, output = run(command(0, ["step", "--device", "cpu", "--model", "small", "--layers", 1, "--grid", "32,8,2",
                                           "--rounds", 1, "--json", file], program="fpdist_bench"), OMP_NUM_THREADS=given)
            self.assertEqual(code, 0, output)
            self.assertEqual(self.lines(file)[0]["threads"], threads)

    def test_step_sets_the_bound_beside_the_gain(self):
        file = self.dir / "step.jsonl"
        self.bench(0, "step", "--device", "cpu", "--model", "small", "--layers", 1, "--grid", "96,16,4", "32,32,1",
                   "--rounds", 1, "--json", file)
        shared, single = self.lines(file)
        self.assertEqual((shared["tokens_logical"], shared["tokens_computed"]), (448, 160))
        self.assertEqual((single["tokens_logical"], single["tokens_computed"]), (64, 64))
        self.assertEqual(single["bound"], 1.0)  # one sample: nothing to share
        self.assertGreater(shared["bound"], shared["bound_with_head"])
        self.assertAlmostEqual(shared["of_bound"], shared["speedup"] / shared["bound"], places=9)
        # By hand: linear layers count rows, attention pairs; the forward's shape is of no matter where rows dominate.
        self.assertTrue(448 / 160 * 0.8 < shared["bound"] < 448 / 160 * 1.2, shared["bound"])
        for arm in ("shared", "unshared"):
            self.assertAlmostEqual(shared[f"{arm}_tokens_per_second"], 448 / shared[f"{arm}_seconds"], places=6)
            self.assertGreater(shared[f"{arm}_peak_bytes"], 1 << 20)

    def test_errors_name_option_and_cure(self):
        for arguments, words in ((["step", "--model", "nothing"], "small"), (["step", "--grid", "1,2"], "--grid"),
                                 (["gemm", "--shapes", "64"], "--shapes"), (["gemm", "--dtype", "x"], "--dtype"),
                                 (["step", "--rounds", "0"], "--rounds"), (["gemm", "--rows", "0"], "--rows"),
                                 (["step", "--dtype", "x"], "--dtype"), (["sing"], "unknown subcommand sing"),
                                 ([], "no subcommand")):
            with self.subTest(arguments=arguments):
                self.assertIn(words, self.bench(0, *arguments, code=USAGE))
        shape = self.write("config.json", '{"model_type": "mamba"}')
        self.assertIn("model_type", self.bench(0, "step", "--model", shape, code=MODEL_FILES))
        self.assertIn("model_type", self.bench(0, "gemm", "--model", self.dir, code=MODEL_FILES))
        for subcommand in ("gemm", "pointwise", "step"):
            self.assertIn("would be written over", self.bench(0, subcommand, "--model", self.dir, "--json", shape, code=USAGE))
        self.assertEqual(shape.read_text(), '{"model_type": "mamba"}')
        for subcommand in ("gemm", "step"):
            self.assertIn("without mpirun", self.bench(2, subcommand, "--device", "cpu", code=USAGE))


class Scaling(Bench):
    def setUp(self):
        super().setUp()
        draw = random.Random(1)
        some = lambda count: [draw.randrange(1, 250) for _ in range(count)]
        rows = [{"prompt_ids": some(24), "chosen_ids": some(6), "rejected_ids": some(6)} for _ in range(24)]
        self.data = self.write("pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self.yaml = self.config(self.data, groups_per_step=2, comm_timeout_seconds=60)
        self.file = self.dir / "scaling.jsonl"

    def scale(self, ranks, *arguments, code=0):
        return self.bench(ranks, "scaling", self.yaml, "--steps", 2, "--gemm-size", 128, *arguments, code=code)

    def test_np_1_2_4_8_give_a_table_and_a_page(self):
        for ranks in (1, 2, 4, 8):
            self.scale(ranks, "--json", self.file)
        self.scale(4, "--json", self.file, "--parallel.pp", 2, "--mode", "strong", "--workload", "pp")
        self.scale(1, "--json", self.file, "--mode", "strong", "--workload", "both ways", "--unshared")
        lines = self.lines(self.file)
        self.assertEqual([(line["np"], line["mode"]) for line in lines[:8]],
                         [(np, mode) for np in (1, 2, 4, 8) for mode in ("weak", "strong")])
        of_one = {line["mode"]: line for line in lines[:2]}
        for line in lines[:8]:
            self.assertEqual(line["groups_per_step"], 2 * (line["np"] if line["mode"] == "weak" else 1))
            self.assertEqual(line["baseline_np"], 1)
            perfect = of_one[line["mode"]]["tokens_per_second"] * line["np"]
            self.assertAlmostEqual(line["efficiency"], line["tokens_per_second"] / perfect, places=9)
        for line in lines:
            self.assertEqual((line["nodes"], line["peak_from"]), (1, "gemm"))
            self.assertTrue(0 < line["mfu_useful"] <= line["mfu_executed"] * (1 + 1e-9), line)
            for name in ("bubble", "exposed_communication"):
                self.assertTrue(0 <= line[name] < 1, line)
        self.assertIn("dp 2 x pp 2", lines[8]["mesh"])
        self.assertGreater(lines[8]["exposed_communication"], 0)  # a pipeline waits for its rows
        shared, unshared = lines[9:]
        self.assertEqual((shared["share"], unshared["share"]), (True, False))
        self.assertEqual(shared["tokens_logical"], unshared["tokens_computed"])
        self.assertGreater(unshared["mfu_executed"], 1.2 * unshared["mfu_useful"])  # prompts that were computed twice

        page = self.dir / "page.html"
        output = self.bench(0, "scaling", "--report", self.file, "--html", page)
        self.assertEqual(len(re.findall(r"^ +np +nodes", output, re.M)), 5, output)  # series
        html = page.read_text()
        self.assertEqual(html.count("<svg"), 6)
        self.assertEqual(html.count("<circle"), 6 * len(lines))
        for words in ("tokens/s", "logarithmic", "MFU as useful", "bubble", "did not hide", "float32", lines[0]["date"]):
            self.assertIn(words, html)
        self.assertNotIn("://", html)  # self-contained
        self.assertNotIn("nan", html)

    def test_errors_name_file_and_cure(self):
        self.assertIn("lower train.groups_per_step", self.scale(1, "--train.groups_per_step", 25, code=USAGE))
        self.assertIn("--mode", self.scale(0, "--mode", "both-ways", code=USAGE))
        self.assertIn("parallel.pq", self.scale(0, "--parallel.pq", 2, code=USAGE))
        self.assertIn("needs a config", self.bench(0, "scaling", code=USAGE))
        self.assertIn("--html needs", self.scale(0, "--html", "x", code=USAGE))
        self.assertIn("--steps", self.bench(0, "scaling", self.yaml, "--steps", 0, code=USAGE))
        for read in (self.yaml, self.data):
            before = read.read_text()
            self.assertIn("would be written over", self.scale(0, "--json", read, code=USAGE))
            self.assertEqual(read.read_text(), before)
        self.assertIn("no such file", self.bench(0, "scaling", "--report", self.file, code=DATA))
        self.file.write_text('{"bench": "comm"}\n{"bench": "scaling", "np": 2}\n')
        self.assertIn("scaling.jsonl:2: no positive number 'tokens_per_second'",
                      self.bench(0, "scaling", "--report", self.file, code=DATA))
        self.file.write_text('{"bench": "scaling", "np": 2, "tokens_per_second": 1}\n')
        self.assertIn("--report", self.bench(0, "scaling", "--report", self.file, "--html", self.dir / "." / self.file.name, code=USAGE))
        self.assertIn("disk full", self.bench(0, "scaling", "--report", self.file, "--html", "/dev/full", code=DISK))
        self.file.write_text("[]\n")
        self.assertIn("scaling.jsonl:1: not a JSON object", self.scale(1, "--json", self.file, code=DATA))


if __name__ == "__main__":
    main()
