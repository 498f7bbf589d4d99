#!/usr/bin/env python3
"""fpdist_train on meshes: the same training on every one, and what it counts on each axis.
Usage: mesh_program_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import pathlib
import re
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import Folder, command, main, mesh, read_weights, run, steps, steps_without_times, train

STEPS = 4
AXES = ("dp_cp", "pp", "pp_gradient", "cp", "cp_gradient", "tp")


class Quickstart(unittest.TestCase):
    """The quickstart config prints plain dp's losses and leaves its weights, whatever the mesh."""

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.dir = pathlib.Path(temporary.name)
        code, output = run(command(0, ["--generate", "arithmetic", "--pairs", 256, "--shots", 12, "--seed", 0, "--output",
                                       cls.dir / "pairs.jsonl"], program="fpdist_prepare"))
        assert code == 0, output
        code, output = cls.quickstart("dp", 8)
        assert code == 0, output

    @classmethod
    def quickstart(cls, name, ranks, *arguments):
        return train(ranks, "configs/quickstart.yaml", "--data.path", cls.dir / "pairs.jsonl", "--train.max_steps", STEPS,
                     "--train.output_dir", cls.dir / name, *arguments)

    def check(self, name, ranks, *arguments):
        code, output = self.quickstart(name, ranks, *arguments)
        self.assertEqual(code, 0, output)
        plain, other = steps(self.dir / "dp"), steps(self.dir / name)
        self.assertEqual((len(plain), len(other)), (STEPS, STEPS))
        for metric, delta in (("loss", 1e-5), ("rewards/margins", 1e-5), ("grad_norm", 1e-4)):
            apart = max(abs(a[metric] - b[metric]) for a, b in zip(plain, other))
            print(f"{name}: {metric} within {apart:.2g}", flush=True)
            self.assertLess(apart, delta, metric)
        self.check_weights(name)
        return output

    def check_weights(self, name):
        plain, other = read_weights(self.dir / "dp"), read_weights(self.dir / name)
        self.assertEqual({key: shape for key, (shape, _) in plain.items()},
                         {key: shape for key, (shape, _) in other.items()})
        apart = max(max(abs(a - b) for a, b in zip(plain[key][1], other[key][1])) for key in plain)
        print(f"{name}: {len(plain)} weights within {apart:.2g}", flush=True)
        self.assertLess(apart, 1e-5)

    def test_tp2_cp2_pp2(self):
        output = self.check("tp2cp2pp2", 8, "--parallel.tp", 2, "--parallel.cp", 2, "--parallel.pp", 2)
        self.assertIn("mesh dp 1 x pp 2 x cp 2 x tp 2", output)

    def test_1f1b(self):
        self.check("1f1b", 4, "--parallel.dp", 2, "--parallel.pp", 2, "--parallel.schedule", "1f1b", "--pack.max_tokens", 2048,
                   "--train.profile_steps", 1)
        for name in ("trace-1.json", "trace-1.planned.json"):  # measured and planned, for Perfetto
            trace = json.loads((self.dir / "1f1b" / name).read_text())
            events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
            self.assertEqual({(event["pid"], event["tid"]) for event in events}, {(0, 0), (0, 1), (1, 2), (1, 3)}, name)
            tracks = {event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"}
            measured = {0: "stage 0 (rank 0)", 1: "stage 1 (rank 1)", 2: "stage 0 (rank 2)", 3: "stage 1 (rank 3)"}
            self.assertEqual(tracks, measured if name == "trace-1.json" else {0: "stage 0", 1: "stage 1", 2: "stage 0", 3: "stage 1"})
            self.assertTrue(all(event["args"]["rows"] > 0 for event in events if event["name"][0] in "FBSR"), name)
            arrows = [[event for event in trace["traceEvents"] if event["ph"] == phase] for phase in "sf"]
            sends = [event for event in events if event["cat"] == "message" and event["name"].startswith("S")]
            self.assertEqual([len(ends) for ends in arrows], [len(sends)] * 2, name)
            self.assertEqual(bool(sends), name == "trace-1.json")
            self.assertTrue(any(event["name"].startswith("B0") for event in events), name)
            self.assertTrue(all(event["dur"] >= 0 for event in events), name)
        lines = (self.dir / "1f1b" / "trace-1.txt").read_text().splitlines()
        self.assertEqual([lines[0], lines.count("planned")], ["measured", 1])
        self.assertFalse((self.dir / "1f1b" / "trace-2.json").exists())

    def test_zb_h1(self):
        self.check("zb-h1", 4, "--parallel.pp", 2, "--parallel.tp", 2, "--parallel.schedule", "zb-h1",
                   "--pack.max_tokens", 2048)

    def test_interleaved(self):
        self.check("interleaved", 4, "--parallel.pp", 2, "--parallel.cp", 2, "--parallel.schedule", "interleaved",
                   "--parallel.virtual_stages", 2, "--pack.max_tokens", 2048)


class Traffic(Folder):
    """metrics.jsonl: bytes and messages of every axis."""

    def trained(self, name, ranks, degrees, *arguments):
        data, _ = self.pairs()
        self.train(ranks, self.config(data, output_dir=self.dir / name), *mesh(**degrees), *arguments)
        return steps(self.dir / name)

    def test_only_the_axes_that_hold_ranks_carry_messages(self):
        used = {"dp": {"dp_cp"}, "pp": {"pp", "pp_gradient"}, "cp": {"dp_cp", "cp", "cp_gradient"}, "tp": {"tp"}}
        for axis, carriers in used.items():
            # Every other row to the other rank: with larger chunks a tree this small may stay on one rank.
            for step in self.trained(axis, 2, {axis: 2}, "--parallel.cp_chunk", 8):
                for name in AXES:
                    for unit in ("bytes", "messages"):
                        figure = step[f"comm/{name}_{unit}"]
                        if name in carriers:
                            self.assertGreater(figure, 0, f"{name}_{unit} on {axis} 2")
                        else:
                            self.assertEqual(figure, 0, f"{name}_{unit} on {axis} 2")

    def test_equal_runs_count_the_same_and_leave_the_same_bits(self):
        degrees = dict(pp=2, cp=2, tp=2)
        step = self.trained("one", 8, degrees)[-1]
        for name in AXES:
            self.assertGreater(step[f"comm/{name}_bytes"], 0, name)
            self.assertGreater(step[f"comm/{name}_messages"], 0, name)
        self.trained("two", 8, degrees)
        self.assertEqual(steps_without_times(self.dir / "one"), steps_without_times(self.dir / "two"))
        self.assertEqual((self.dir / "one/final/model.safetensors").read_bytes(),
                         (self.dir / "two/final/model.safetensors").read_bytes())


class Refusals(Folder):
    """A mesh that cannot be is refused before anything is written."""

    def refuse(self, ranks, words, *arguments):
        data, _ = self.pairs()
        code, output = train(ranks, self.config(data), *arguments)
        self.assertEqual(code, 2, output)
        error = next((line for line in output.splitlines() if line.startswith("error: ")), output)
        for word in words:
            self.assertIn(word, error)
        self.assertFalse((self.dir / "out").exists(), "wrote files: " + error)

    def test_minus_one_is_the_rest_of_the_ranks(self):
        data, _ = self.pairs()
        for name, arguments, resolved in (
                ("dp", ("--parallel.dp", -1, "--parallel.tp", 2), "mesh dp 2 x pp 1 x cp 1 x tp 2"),
                ("cp", ("--parallel.dp", 1, "--parallel.cp", -1, "--parallel.pp", 2), "mesh dp 1 x pp 2 x cp 2 x tp 1")):
            self.assertIn(resolved, self.train(4, self.config(data, output_dir=self.dir / name), *arguments))

    def test_a_product_that_does_not_fit_the_ranks(self):
        words = ["dp 1 x pp 1 x cp 2 x tp 1", "needs 2 ranks, the job has 3", "mpirun -np", "-1"]
        self.refuse(3, words, *mesh(cp=2))
        self.refuse(3, ["a multiple of 2", "the job has 3"], "--parallel.tp", 2)
        self.refuse(2, ["more than one", "give all but one"], "--parallel.tp", -1)

    def test_tp_that_does_not_fit_the_heads(self):
        self.refuse(3, ["parallel.tp", "4 attention heads", "use 2 or 4"], *mesh(tp=3))

    def test_ulysses_that_does_not_divide_the_heads(self):
        self.refuse(4, ["parallel.ulysses 4", "2 key-value heads", "divisor"], *mesh(cp=4), "--parallel.ulysses", 4)

    def test_ulysses_that_does_not_divide_cp(self):
        self.refuse(0, ["parallel.ulysses is 2", "parallel.cp 3"], *mesh(cp=3), "--parallel.ulysses", 2)

    def test_more_stages_than_layers(self):
        self.refuse(5, ["parallel.pp", "4 layers", "at most 4"], *mesh(pp=5))

    def test_layers_that_do_not_add_up(self):
        self.refuse(2, ["parallel.layers (3,2)", "adds up to 5", "has 4 layers"], *mesh(pp=2), "--parallel.layers", "3,2")
        self.refuse(2, ["parallel.layers lists 1", "one number a run"], *mesh(pp=2), "--parallel.layers", "4")

    def test_interleaving_without_stages(self):
        self.refuse(0, ["parallel.schedule", "interleaved", "2 stages or more"], "--parallel.schedule", "interleaved",
                    "--parallel.virtual_stages", 2)


class Plans(Folder):
    """--plan needs no ranks."""

    def plan(self, *arguments):
        data, _ = self.pairs()
        return train(0, self.config(data), "--plan", *arguments)

    def test_the_rank_map_and_the_layers_of_each_stage(self):
        code, output = self.plan(*mesh(dp=2, pp=2, cp=2, tp=2), "--parallel.layers", "3,1")
        self.assertEqual(code, 0, output)
        lines = [" ".join(line.split()) for line in output.splitlines()]
        for line in ("mesh dp 2 x pp 2 x cp 2 x tp 2 (16 ranks)", "replica 0 stage 0 [0 1] [2 3]",
                     "replica 0 stage 1 [4 5] [6 7]", "replica 1 stage 0 [8 9] [10 11]", "replica 1 stage 1 [12 13] [14 15]",
                     "schedule 1f1b, layers 3,1"):
            self.assertIn(line, lines, output)
        code, output = self.plan(*mesh(pp=2), "--parallel.schedule", "interleaved", "--parallel.virtual_stages", 2)
        self.assertEqual(code, 0, output)
        self.assertRegex(output, r"schedule +interleaved, layers 1,1,1,1")
        self.assertFalse((self.dir / "out").exists())

    def test_it_says_the_memory_that_the_planner_says(self):
        data, _ = self.pairs()
        arguments = (self.config(data), *mesh(dp=2, pp=2), "--train.max_steps", 1)
        code, output = train(0, arguments[0], "--plan", *arguments[1:])
        self.assertEqual(code, 0, output)
        code, planned = run(command(0, ["--config", *arguments], program="fpdist_plan"))
        self.assertEqual(code, 0, planned)
        stages = re.findall(r"stage \d .* = (\S+ \S+)", planned)
        self.assertEqual(re.search(r"memory a rank +(\S+ \S+)", output)[1], max(stages, key=lambda words: float(words.split()[0])))

    def test_what_training_refuses_the_plan_refuses(self):
        for arguments, words in (
                ((*mesh(tp=3),), "parallel.tp"),
                ((*mesh(cp=4), "--parallel.ulysses", 4), "parallel.ulysses"),
                ((*mesh(pp=5),), "parallel.pp"),
                ((*mesh(pp=2), "--parallel.layers", "3,2"), "parallel.layers")):
            with self.subTest(words):
                code, output = self.plan(*arguments)
                self.assertEqual(code, 2, output)
                self.assertIn(words, output)


class Generates(Folder):
    """fpdist_generate under mpirun."""

    def setUp(self):
        super().setUp()
        texts = ("Add: 3+4=", "Add: 3+5=", "hello", "Add: 3+4=", "Add: 12")
        self.prompts = self.dir / "prompts.jsonl"
        self.prompts.write_text("".join(json.dumps({"prompt": words}) + "\n" for words in texts))
        self.config_file = self.dir / "online.yaml"
        self.config_file.write_text(f"method: grpo\nmodel: {{ preset: tiny, dtype: float64 }}\nreward: {{ functions: [repetition] }}\n"
                                    f"rollout: {{ prompts: [{self.prompts}], num_generations: 2, max_completion_length: 6 }}\n")

    def generate(self, ranks, name, *options, code=0, prompts=None):
        out = self.dir / name
        line = command(ranks, [self.config_file, "--prompts", prompts or self.prompts, "--output", out, "--rollout.num_generations", 3,
                               *options], program="fpdist_generate")
        found, self.said = run(line)
        self.assertEqual(found, code, self.said)
        return [json.loads(row) for row in out.read_text().splitlines()] if code == 0 else None

    def test_any_mesh_gives_the_rows_of_one_process(self):
        alone = self.generate(0, "alone.jsonl")
        tail = self.said.splitlines()[-2:]
        self.assertEqual([len(row["completions"]) for row in alone], [3] * 5)
        self.assertIn("reward", alone[0]["completions"][0])
        for ranks, mesh_of in ((2, ()), (4, ("--parallel.tp", 2, "--parallel.pp", 2))):
            rows = self.generate(ranks, f"on{ranks}.jsonl", *mesh_of)
            self.assertEqual(len(rows), len(alone))
            for row, one in zip(rows, alone):
                for here, there in zip(row["completions"], one["completions"]):
                    for name in ("ids", "finish_reason", "text", "reward"):
                        self.assertEqual(here[name], there[name])
                    for own, other in zip(here["old_logps"], there["old_logps"]):
                        self.assertAlmostEqual(own, other, delta=1e-6)
            self.assertEqual(self.said.splitlines()[-2], tail[0], "reward and accuracy of all")
            self.assertEqual(re.findall(r"prompts: (\d+) tokens|completions: (\d+) tokens", self.said.splitlines()[-1]),
                             re.findall(r"prompts: (\d+) tokens|completions: (\d+) tokens", tail[1]))

    def test_what_is_wrong_is_said_once_and_leaves_no_file(self):
        self.generate(2, "out.jsonl", "--parallel.tp", 3, code=2)
        self.assertEqual(self.said.count("error:"), 1, self.said)
        self.assertIn("parallel", self.said)
        of_the_last = self.write("odd.jsonl", self.prompts.read_text() + '{"prompt_ids": [99999]}\n')
        self.generate(2, "out.jsonl", prompts=of_the_last, code=3)  # only one replica would complete it
        self.assertEqual(self.said.count("error:"), 1, self.said)
        self.assertIn("99999 is no token", self.said)
        (self.dir / "out.jsonl").unlink(missing_ok=True)
        self.generate(2, "out.jsonl", prompts=self.dir / "none.jsonl", code=3)
        self.assertIn("none.jsonl", self.said)
        self.assertFalse((self.dir / "out.jsonl").exists())
        (self.dir / "out.jsonl").write_text("mine\n")
        self.generate(2, "out.jsonl", code=2)
        self.assertIn("is there already", self.said)
        self.assertEqual((self.dir / "out.jsonl").read_text(), "mine\n")


if __name__ == "__main__":
    main()
