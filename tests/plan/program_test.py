#!/usr/bin/env python3
"""fpdist_plan as a user meets it. Usage: program_test.py FPDIST_PLAN"""
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
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
            for schedule, chunks in SCHEDULES:
                for dp, pp in ((1, 1), (3, 2), (2, 4)):
                    result, _ = self.plan("--parallel.dp", dp, "--parallel.pp", pp, "--pack.max_tokens", 4096, "--method", "grpo",
                                          "--parallel.schedule", schedule, "--parallel.virtual_stages", chunks)
                    with self.subTest(seed=seed, schedule=schedule, dp=dp, pp=pp):
                        price_plan.check(self.lengths, result)

    def test_preference_groups_stay_whole(self):
        self.write(7, 12)
        result, _ = self.plan("--parallel.dp", 2, "--parallel.pp", 2, "--pack.max_tokens", 16384, "--method", "dpo")
        price_plan.check(self.lengths, result, keep_lines=True)

    def test_json_holds_what_is_promised(self):
        self.write(1, 10)
        result, said = self.plan("--parallel.dp", 2, "--parallel.pp", 2, "--compare", "--world", "4,8", "--parallel.layers", "17,15")
        self.assertEqual(result["plan"]["layers"], [17, 15])
        for key in ("step_over_ideal", "plan_ms", "bubble", "replica_imbalance", "packs", "sharing_ratio", "peak_tokens_in_flight", "gap", "plan"):
            self.assertIn(key, result)
        self.assertEqual(len(result["compare"]), 4)
        self.assertEqual(result["packs"], sum(len(replica["packs"]) for replica in result["plan"]["replicas"]))
        for words in ("step / ideal", "gap", "world 8: dp 4", "nothing shared"):
            self.assertIn(words, said)

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
        self.assertEqual(text.count("<rect "), 3 * 3 * sum(units))
        for picture in re.findall(r"<svg.*?</svg>", text, re.S):
            xml.etree.ElementTree.fromstring(picture)
        self.assertNotIn("http", text)

    def test_costs_come_from_a_file(self):
        self.write(4, 10)
        shipped = ROOT / "configs" / "costs" / "llama3-8b.yaml"
        mesh = ("--parallel.dp", 2, "--parallel.pp", 2)
        self.assertEqual(self.plan(*mesh)[0]["plan"], self.plan(*mesh, "--costs", shipped)[0]["plan"])
        heavy = self.folder / "heavy.yaml"
        heavy.write_text(shipped.read_text().replace("overhead_rows: 256", "overhead_rows: 4096"))
        self.assertLess(self.plan(*mesh, "--costs", heavy)[0]["units"], self.plan(*mesh)[0]["units"])

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
                (2, "--world: '4,x' is not a list of whole numbers", ("--lengths", self.lengths, "--world", "4,x")),
                (2, "check plan.costs", ("--lengths", self.lengths, "--costs", "none.yaml")),
                (2, "no multiple of --parallel.pp", ("--lengths", self.lengths, "--parallel.pp", 2, "--world", 3)),
                (7, "cannot write", ("--lengths", self.lengths, "--json", self.folder / "none" / "x.json"))):
            with self.subTest(words=words):
                done = self.run_program(*arguments)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(words, done.stderr)
        self.assertIn("--parallel.dp", self.run_program("--help").stdout)


if __name__ == "__main__":
    unittest.main()
