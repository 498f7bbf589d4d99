#!/usr/bin/env python3
"""fpdist_plan as a user meets it. Usage: program_test.py FPDIST_PLAN"""
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import price_plan  # noqa: E402

PROGRAM = sys.argv.pop(1)
SCHEDULES = (("1f1b", 1), ("interleaved", 2), ("zb-h1", 1))


def object_of(rng, depth):
    prefix = rng.choice((0, 1, rng.randrange(400)))
    if depth and rng.random() < 0.3:
        return {"prefix": prefix, "children": [object_of(rng, depth - 1) for _ in range(rng.randrange(1, 4))]}
    return {"prefix": prefix, "completions": [rng.randrange(1, 500) for _ in range(rng.randrange(1, 6))]}


class Plans(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.lengths = self.folder / "lengths.jsonl"

    def run_program(self, *arguments):
        return subprocess.run([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def plan(self, *arguments):
        out = self.folder / "plan.json"
        done = self.run_program("--lengths", self.lengths, "--json", out, *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(out.read_text()), done.stdout

    def write(self, seed, lines):
        rng = random.Random(seed)
        self.lengths.write_text("".join(json.dumps(object_of(rng, 2)) + "\n" for _ in range(lines)))

    def test_an_independent_pricer_finds_the_same_figures(self):
        for seed in range(6):
            self.write(seed, 20)
            for schedule, runs in SCHEDULES:
                for dp, pp in ((1, 1), (3, 2), (2, 4)):
                    result, _ = self.plan("--parallel.dp", dp, "--parallel.pp", pp, "--pack.max_tokens", 4096, "--method", "grpo",
                                          "--parallel.schedule", schedule, "--parallel.virtual_stages", runs)
                    with self.subTest(seed=seed, schedule=schedule, dp=dp, pp=pp):
                        price_plan.check(self.lengths, result)

    def test_preference_groups_stay_whole(self):
        self.write(7, 12)
        result, _ = self.plan("--parallel.dp", 2, "--parallel.pp", 2, "--pack.max_tokens", 16384, "--method", "dpo")
        price_plan.check(self.lengths, result, keep_lines=True)

    def test_json_holds_what_is_promised(self):
        self.write(1, 10)
        result, said = self.plan("--parallel.dp", 2, "--parallel.pp", 2, "--compare", "--world-sizes", "4,8", "--parallel.layers", "17,15")
        self.assertEqual(result["plan"]["layers"], [17, 15])
        for key in ("step_over_ideal", "plan_ms", "bubble", "replica_imbalance", "packs", "sharing_ratio", "peak_tokens_in_flight", "gap", "plan"):
            self.assertIn(key, result)
        self.assertEqual(len(result["compare"]), 4)
        self.assertEqual(result["packs"], sum(len(replica["packs"]) for replica in result["plan"]["replicas"]))
        for words in ("step / ideal", "gap", "dp 4, step / ideal", "nothing shared", "zb-h1: step / ideal"):
            self.assertIn(words, said)
        self.assertEqual([time["schedule"] for time in result["schedules"]], ["1f1b", "interleaved", "zb-h1"])
        self.assertEqual(result["schedules"][0]["step"], result["step"])
        self.assertLess(result["schedules"][2]["step"], result["step"])
        self.assertEqual(len(result["stage_peak_row_layers"]), 2)

    def test_a_cluster_is_searched_for_the_best_mesh_that_fits(self):
        self.lengths.write_text('{"prefix": 900, "completions": [400, 250, 375, 800]}\n' * 60)
        cluster = ROOT / "configs" / "clusters" / "h100-8.yaml"
        page = self.folder / "page.html"
        on = ("--pack.max_tokens", 8192, "--cluster", cluster)
        result, said = self.plan(*on, "--world-sizes", "1,8,32", "--html", page)
        one, eight, many = result["cluster"]["worlds"]
        self.assertIn("no mesh fits: the smallest needs", one["refusal"])
        self.assertEqual(eight["efficiency"], 1)
        self.assertLess(many["step_seconds"], eight["step_seconds"])
        for world in (eight, many):
            self.assertEqual(world["ranks"], world["dp"] * world["pp"] * world["cp"] * world["tp"])
            self.assertAlmostEqual(sum(world["seconds"].values()), world["step_seconds"])
            self.assertLess(world["memory"], 80e9)
            self.assertTrue(0.05 < world["mfu"] < 0.7)
        for words in ("no mesh fits", "MFU", "binds:", "predicted, not measured"):
            self.assertIn(words, said)
        best = min(eight["fitting"], key=lambda mesh: mesh["step_seconds"])
        self.assertEqual([best[axis] for axis in ("dp", "pp", "cp", "tp", "step_seconds")], [eight[axis] for axis in ("dp", "pp", "cp", "tp", "step_seconds")])
        complete, _ = self.plan(*on, "--world-sizes", "8", "--complete")
        self.assertGreater(len(complete["cluster"]["worlds"][0]["fitting"]), len(eight["fitting"]))
        self.assertEqual(complete["cluster"]["worlds"][0]["step_seconds"], eight["step_seconds"])
        packs_of = {mesh["max_tokens"] for mesh in complete["cluster"]["worlds"][0]["fitting"]}
        self.assertEqual(packs_of, {8192, 4096, 2048})
        large, _ = self.plan("--pack.max_tokens", 16384, "--cluster", cluster, "--world-sizes", "8")
        self.assertLessEqual(large["cluster"]["worlds"][0]["step_seconds"], eight["step_seconds"])
        self.assertIn('class="tokens"', page.read_text())
        xml.etree.ElementTree.fromstring(re.search(r'<svg class="worlds".*?</svg>', page.read_text(), re.DOTALL).group(0))
        config = self.folder / "config.json"
        config.write_text(json.dumps({"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                                      "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5}))
        small, _ = self.plan(*on, "--world-sizes", "8", "--model", config)
        self.assertLess(small["cluster"]["worlds"][0]["step_seconds"], eight["step_seconds"] / 3)
        for words, *arguments in (("--cluster needs the numbers of GPUs", "--cluster", cluster),
                                  ("--model is for --lengths with --cluster", "--model", config),
                                  ("is no number of GPUs", "--cluster", cluster, "--world-sizes", "-8"),
                                  ("check --cluster", "--cluster", "nowhere", "--world-sizes", "8")):
            done = self.run_program("--lengths", self.lengths, *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(words, done.stderr)

    def test_a_large_step_is_cut_short_unless_it_is_asked_for(self):
        self.lengths.write_text('{"prefix": 300, "completions": [100, 50, 75, 200]}\n' * 5001)
        page = self.folder / "page.html"
        mesh = ("--parallel.dp", 16, "--parallel.pp", 2, "--pack.max_tokens", 16384, "--html", page)
        short, said = self.plan(*mesh)
        self.assertIn("--complete", said)
        self.assertFalse(short["plan"]["complete"])
        self.assertEqual(len(short["plan"]["replicas"]), 8)
        self.assertNotIn("schedules", short)
        self.assertIn("8 more replicas", page.read_text())
        self.assertLess(len(page.read_text()), 4_000_000)
        self.assertLessEqual(short["search"]["operations"], short["search"]["budget"] * 1.25)
        whole, said = self.plan(*mesh, "--complete")
        self.assertNotIn("cut short", said)
        self.assertEqual(whole["plan_hash"], short["plan_hash"])
        self.assertEqual(sum(len(pack["leaves"]) for replica in whole["plan"]["replicas"] for pack in replica["packs"]), 4 * 5001)
        self.assertEqual(len(whole["schedules"]), 3)
        self.assertNotIn("more replicas", page.read_text())
        for shown, replica in zip(short["plan"]["replicas"], whole["plan"]["replicas"]):
            self.assertEqual(shown["packs"], len(replica["packs"]))

    def test_scaling_is_the_same_step_on_more_replicas(self):
        self.write(8, 40)
        mesh = ("--parallel.pp", 2, "--pack.max_tokens", 4096, "--method", "grpo")
        scaling = self.plan(*mesh, "--parallel.dp", 2, "--world-sizes", "4", "8,16")[0]["scaling"]
        self.assertEqual([(point["ranks"], point["dp"]) for point in scaling], [(4, 2), (8, 4), (16, 8)])
        for point in scaling:
            alone = self.plan(*mesh, "--parallel.dp", point["dp"])[0]
            self.assertEqual(point["step"], alone["step"])
            self.assertAlmostEqual(point["step_over_ideal"], alone["step_over_ideal"])
            self.assertAlmostEqual(point["efficiency"], 4 * scaling[0]["step"] / (point["ranks"] * point["step"]))

    def test_the_same_plan_every_time(self):
        self.write(2, 30)
        first, second = (self.plan("--parallel.dp", 4, "--parallel.pp", 2)[0] for _ in range(2))
        self.assertEqual(first["plan"], second["plan"])

    def test_trace_and_page_show_every_operation(self):
        self.write(3, 10)
        trace, page = self.folder / "t.json", self.folder / "p.html"
        result, _ = self.plan("--parallel.dp", 2, "--parallel.pp", 3, "--parallel.schedule", "zb-h1", "--trace", trace, "--html", page)
        units = [sum(len(pack["rows"]) for pack in replica["packs"]) for replica in result["plan"]["replicas"]]
        events = [event for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == "X"]
        self.assertEqual(len(events), 3 * 3 * units[0])
        text = page.read_text()
        self.assertEqual(len(re.findall(r'<rect class="[FBW]( odd)?"', text)), 3 * 3 * sum(units))
        for picture in re.findall(r"<svg.*?</svg>", text, re.S):
            xml.etree.ElementTree.fromstring(picture)
        self.assertNotIn("http", text)

    def test_the_verdict_says_what_would_be_faster_and_how(self):
        self.write(11, 40)
        packing = ("--pack.max_tokens", 2048, "--method", "grpo")
        mesh = ("--parallel.dp", 2, "--parallel.pp", 4, *packing)
        result, said = self.plan(*mesh)
        best = min((time for time in result["schedules"] if "step" in time), key=lambda time: time["step"])
        self.assertNotEqual(best["schedule"], "1f1b")
        less = f"{100 * (1 - best['step'] / result['step']):.1f} %"
        self.assertIn(f"{best['schedule']} would take {less} less time: --parallel.schedule {best['schedule']}", said)
        self.assertEqual([(one["dp"], one["pp"]) for one in result["meshes"]], [(8, 1), (4, 2), (1, 8)])
        for one in result["meshes"]:
            self.assertEqual(self.plan(*packing, "--parallel.dp", one["dp"], "--parallel.pp", one["pp"])[0]["step"], one["step"])
        fastest = min(result["meshes"], key=lambda one: one["step"])
        less = f"{100 * (1 - fastest['step'] / result['step']):.1f} %"
        self.assertRegex(said, rf"dp {fastest['dp']} x pp {fastest['pp']}, .*would take {less} less time.*--parallel.pp {fastest['pp']}")
        uneven, said = self.plan(*mesh, "--parallel.layers", "4,4,16,8")
        self.assertIn("stage 2 is the bottleneck", said)
        self.assertEqual(uneven["stage_busy"].index(max(uneven["stage_busy"])), 2)
        alone, said = self.plan("--method", "grpo")
        self.assertEqual((alone["verdict"], alone.get("meshes")), ([], None))

    def test_a_page_says_what_it_was_made_from_and_why_a_schedule_is_missing(self):
        self.write(12, 10)
        page, costs = self.folder / "p.html", self.folder / "costs.yaml"
        costs.write_text((ROOT / "configs" / "costs" / "llama3-8b.yaml").read_text().replace("layers: 32", "layers: 6") +
                         "seconds_per_unit: 2e-12\n")
        result, said = self.plan("--parallel.pp", 4, "--costs", costs, "--html", page, "--trace", self.folder / "t.json")
        text = page.read_text()
        for words in (str(self.lengths), str(costs), time.strftime("%Y-"), "<tr><td>interleaved</td><td colspan"):
            self.assertIn(words, text)
        refusal, = [one["refusal"] for one in result["schedules"] if "refusal" in one]
        self.assertIn("6", refusal)
        self.assertAlmostEqual(result["step_seconds"], 2e-12 * result["step"])
        self.assertIn(f"step           {result['step']} cost units, {result['step_seconds']:.3f} s", said)
        events = [event for event in json.loads((self.folder / "t.json").read_text())["traceEvents"] if event["ph"] == "X"]
        self.assertAlmostEqual(max(event["ts"] + event["dur"] for event in events) * 1e-6, result["step_seconds"], places=6)
        self.assertEqual({event["args"]["rows"] for event in events},
                         {rows for pack in result["plan"]["replicas"][0]["packs"] for rows in pack["rows"]})
        costs.write_text("seconds_per_unit: 3\n")
        done = self.run_program("--lengths", self.lengths, "--costs", costs)
        self.assertEqual(done.returncode, 2)
        self.assertIn("costs.yaml:1: seconds_per_unit is '3'", done.stderr)

    def test_costs_come_from_a_file(self):
        self.write(4, 10)
        shipped = ROOT / "configs" / "costs" / "llama3-8b.yaml"
        mesh = ("--parallel.dp", 2, "--parallel.pp", 2)
        self.assertEqual(self.plan(*mesh)[0]["plan"], self.plan(*mesh, "--costs", shipped)[0]["plan"])
        heavy = self.folder / "heavy.yaml"
        heavy.write_text(shipped.read_text().replace("overhead_rows: 256", "overhead_rows: 4096"))
        self.assertLess(self.plan(*mesh, "--costs", heavy)[0]["units"], self.plan(*mesh)[0]["units"])

    def config(self, *arguments, groups=24, text=""):
        """A plan of a configuration with a data set of its own."""
        rng = random.Random(5)
        rows = [{"prompt_ids": [g] * rng.randrange(20, 60), "completions": [{"ids": [100 + g, s] * rng.randrange(5, 40), "advantage": 1.0} for s in range(4)]}
                for g in range(groups)]
        data, config, out = (self.folder / name for name in ("data.jsonl", "config.yaml", "plan.json"))
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config.write_text(f"method: grpo\nmodel: {{ preset: tiny }}\ndata: {{ path: {data}, max_length: 512, shuffle: false }}\n"
                          f"train: {{ groups_per_step: 8, max_steps: 100 }}\n{text}")
        done = self.run_program("--config", config, "--json", out, *arguments)
        return done, json.loads(out.read_text()) if done.returncode == 0 else None

    def test_a_config_is_planned_with_its_models_costs(self):
        done, result = self.config("--world-sizes", "2,4", "--cluster", ROOT / "configs" / "clusters" / "h100-8.yaml")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(all(world["memory"] < 7e9 for world in result["cluster"]["worlds"]), "a tiny model and the reserve")
        done, result = self.config("--parallel.dp", 2, "--parallel.pp", 2, "--parallel.cp", 2, "--parallel.tp", 2, "--pack.max_tokens", 512,
                                   "--steps", 2, "--world-sizes", "16,32")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([result[axis] for axis in ("dp", "pp", "cp", "tp")], [2] * 4)
        self.assertEqual(sorted(map(tuple, result["samples"])), [(g, s) for g in range(8) for s in range(4)])
        leaves = sorted(leaf for replica in result["plan"]["replicas"] for pack in replica["packs"] for leaf in pack["leaves"])
        self.assertEqual(leaves, list(range(32)))
        self.assertEqual([len(result["steps"]), len(result["stage_bytes"]), len(result["scaling"])], [2, 2, 2])
        self.assertEqual(result["steps"][0]["hash"], result["hash"])
        self.assertNotEqual(result["steps"][1]["hash"], result["hash"])
        self.assertGreater(min(result["bytes_sent"].values()), 0)
        # The preset: hidden 128, 4 layers, 4 and 2 heads x 32, intermediate 384, vocabulary 320; float32.
        self.assertEqual(result["bytes_sent"]["pp"], 2 * result["rows_sent"] * 128 * 4)
        self.assertEqual(result["bytes_sent"]["tp"], (8 * 4 + 4) * result["tokens_computed"] * 128 * 4)
        layer, ends = 128 * (2 * 128 + 2 * 64 + 3 * 384), 128 * 320
        self.assertEqual(result["bytes_sent"]["dp"], 3 * (4 * layer + 2 * ends) * 8)
        for stage, layers in zip(result["stage_bytes"], result["plan"]["layers"]):
            self.assertEqual(stage["gradients"], (layers * layer + ends) // 2 * 4)
            self.assertEqual(stage["total"], sum(stage[part] for part in ("weights", "gradients", "optimizer", "activations")))
        for words in ("memory a rank", "sent a step", "plan hash", "step 2"):
            self.assertIn(words, done.stdout)

    def test_a_config_without_a_mesh_is_planned_on_one_rank(self):
        done, result = self.config()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([result["dp"], result["pp"], result["bytes_sent"]], [1, 1, {"pp": 0, "tp": 0, "cp": 0, "dp": 0}])

    def test_a_config_with_costs_of_another_model_is_refused(self):
        shipped = ROOT / "configs" / "costs" / "llama3-8b.yaml"
        done, _ = self.config("--costs", shipped)
        self.assertEqual(done.returncode, 2)
        self.assertIn("is for a model of 32 layers, this one has 4: give a cost file of this model (layers: 4)", done.stderr)
        own = self.folder / "own.yaml"
        own.write_text(shipped.read_text().replace("layers: 32", "layers: 4"))
        self.assertEqual(self.config("--costs", own)[0].returncode, 0)

    def test_a_config_is_refused_as_training_refuses_it(self):
        for code, words, arguments in (
                (2, "unknown key", ("--pack.max_token", 5)),
                (2, "parallel.layers", ("--parallel.pp", 2, "--parallel.layers", "3,3")),
                (2, "interleaving needs 2 stages", ("--parallel.schedule", "interleaved", "--parallel.virtual_stages", 2)),
                (2, " holds all, or leave them out", ("--pack.max_tokens", 10)),
                (2, "loss.loss_type", ("--loss.loss_type", "sigmoid")),
                (2, "give one of --lengths and --config", ("--lengths", self.lengths)),
                (3, "none.jsonl", ("--data.path", "none.jsonl")),
                (4, "config.json", ("--model.path", "none", "--model.preset", ""))):
            with self.subTest(words=words):
                done, _ = self.config(*arguments)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(words, done.stderr)

    def test_what_is_read_is_not_written_over(self):
        self.write(3, 4)
        rows, config = self.folder / "rows.jsonl", self.folder / "run.yaml"
        rows.write_text('{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}\n')
        config.write_text(f"method: sft\nmodel: {{ preset: tiny }}\ndata: {{ path: [{rows}] }}\n")
        costs = self.folder / "costs.yaml"
        costs.write_text("layers: 4\n")
        link = self.folder / "link"
        for source, inputs in ((["--lengths", self.lengths], (self.lengths, costs)), (["--config", config], (config, rows, costs))):
            for file in inputs:
                link.unlink(missing_ok=True)
                link.symlink_to(file.name)
                before = file.read_text()
                for option in ("--json", "--trace", "--html"):
                    for name in (file, link):
                        done = self.run_program(*source, "--costs", costs, option, name)
                        self.assertEqual(done.returncode, 2, done.stderr)
                        self.assertIn(f"would be written over", done.stderr)
                        self.assertIn(f"give {option} another name", done.stderr)
                        self.assertEqual(file.read_text(), before)

    def test_errors_have_words_and_exit_codes(self):
        self.write(5, 4)
        for code, words, arguments in (
                (2, "--lengths FILE.jsonl is missing", ()),
                (3, "cannot open the file", ("--lengths", "none.jsonl")),
                (2, "unrecognised option '--bogus'", ("--lengths", self.lengths, "--bogus", 1)),
                (2, "set pack.max_tokens to at least", ("--lengths", self.lengths, "--pack.max_tokens", 10)),
                (2, "unknown schedule 'gpipe'", ("--lengths", self.lengths, "--parallel.schedule", "gpipe")),
                (2, "one run of layers a stage", ("--lengths", self.lengths, "--parallel.virtual_stages", 2)),
                (2, "adds up to 9", ("--lengths", self.lengths, "--parallel.pp", 2, "--parallel.layers", 4, 5)),
                (2, "--world-sizes: '4,x' is not a list of whole numbers", ("--lengths", self.lengths, "--world-sizes", "4,x")),
                (2, "check plan.costs", ("--lengths", self.lengths, "--costs", "none.yaml")),
                (2, "no multiple of 2, the ranks of a replica", ("--lengths", self.lengths, "--parallel.pp", 2, "--world-sizes", 3)),
                (2, "set it to at least", ("--lengths", self.lengths, "--parallel.pp", 2, "--pack.max_in_flight", 3)),
                (7, "cannot write", ("--lengths", self.lengths, "--json", self.folder / "none" / "x.json")),
                *((7, "disk full", ("--lengths", self.lengths, page, "/dev/full")) for page in ("--json", "--html", "--trace"))):
            with self.subTest(words=words):
                done = self.run_program(*arguments)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(words, done.stderr)
        self.assertIn("--parallel.dp", self.run_program("--help").stdout)


if __name__ == "__main__":
    unittest.main()
