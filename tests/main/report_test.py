#!/usr/bin/env python3
"""fpdist_report: what it says of runs, and what it says of what is none. Usage: report_test.py FPDIST_REPORT"""
import json
import os
import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from report_support import Page, Reports, step


def data_of(page):
    return json.loads(Page(page.read_text()).scripts[0])


def cells(text, label):
    """The cells behind a label, which two blanks part."""
    line = next(line for line in text.splitlines() if line.startswith(label + " "))
    return re.split(r"  +", line)[1:]


class Words(Reports):
    def test_one_run(self):
        text = self.report(self.run_of("mine", [step(n) for n in range(1, 21)]))
        for label, value in (("run", "mine"), ("method", "dpo"), ("steps", "20 of 20"), ("time in steps", "40.0 s"), ("tokens/s", "500"),
                             ("sharing", "2.50x"), ("measured / planned", "1.50"), ("bubble", "12.5 %"), ("sent a step", "3.0 MiB")):
            self.assertEqual(cells(text, label), [value])
        self.assertRegex(text, r"loss +0\.6334 to 0\.1\d+\n")
        self.assertRegex(text, r"loss over the run +█[▁-█]{15}▁{4}\n")
        self.assertNotIn("note", text)
        self.assertNotIn("memory", text, "nothing is known of memory")

    def test_runs_beside_each_other_and_in_what_they_differ(self):
        a = self.run_of("a/run", [step(n) for n in range(1, 6)])
        b = self.run_of("b/run", [step(n) for n in range(1, 4)] + [{"step": 3, "eval_loss": 0.5}, {"step": 3, "eval_loss": None}], rate="2.0e-06")
        text = self.report(a, b / "metrics.jsonl")
        self.assertEqual(cells(text, "run"), ["a/run", "b/run"])
        self.assertEqual(cells(text, "steps"), ["5 of 20", "3 of 20"])
        self.assertEqual(cells(text, "optim.learning_rate"), ["1e-06", "2e-06"])
        self.assertNotIn("train.output_dir", text)
        self.assertRegex(cells(self.report(a, a), "run")[1], r"a/run #2$")

    def test_lines_of_every_tenth_step_speak_for_the_others(self):
        text = self.report(self.run_of("mine", [step(n) for n in range(10, 101, 10)]))
        self.assertEqual(cells(text, "time in steps"), ["3:20 min"])

    def test_a_run_that_goes_on_or_went_back_is_read_with_a_note(self):
        text = self.report(self.run_of("cut", [step(1), step(2), '{"step": 3, "lo'], end=""))
        self.assertEqual(cells(text, "steps"), ["2 of 20"])
        self.assertIn("note: cut: the last line of metrics.jsonl, 3, is cut", text)
        back = self.run_of("back", [step(1), step(2, loss=9), step(3, loss=9), step(2, loss=0.25), {"step": 2, "eval_loss": 0.125, "epoch": 3}])
        self.assertIn("earlier steps", self.report(back))
        data = data_of(self.page(back))["runs"][0]
        self.assertEqual(data["training"]["step"], [1, 2])
        self.assertEqual(data["training"]["column"]["loss"][1], 0.25)
        self.assertEqual(data["evaluation"]["column"]["eval_loss"], [0.125])
        self.assertIn("no step yet", self.report(self.run_of("new", [], end="")))

    def test_what_is_missing_beside_the_metrics_is_a_note(self):
        text = self.report(self.run_of("bare", [step(1)], method=None))
        self.assertIn("note: bare: there is no config.resolved.yaml", text)
        self.assertEqual(cells(text, "steps"), ["1"])
        odd = self.run_of("odd", [step(1)])
        (odd / "config.resolved.yaml").write_text("method: dpo\nmodel: { preset: tiny, colour: red }\n")
        self.assertRegex(self.report(odd), r"note: odd: config.resolved.yaml is not read: .*colour")

    def test_values_that_are_no_numbers_are_left_out(self):
        page = self.page(self.run_of("mine", [step(1, loss=None, words="x", more={"a": 1}), step(2)]))
        column = data_of(page)["runs"][0]["training"]["column"]
        self.assertEqual(column["loss"][0], None)
        self.assertNotIn("words", column)


class Refusals(Reports):
    def test_what_is_no_run(self):
        self.assertIn("there is no such run", self.report(self.folder / "none", code=3))
        self.assertIn("metrics.jsonl: cannot be opened", self.report(self.folder, code=3))
        for line in ("no json", "[1]", '{"loss": 1}', '{"step": "x"}'):
            run = self.run_of(f"bad{len(line)}", [step(1), line, step(2)])
            self.assertIn("metrics.jsonl:2: no line of a run's metrics", self.report(run, code=3))

    def test_command_lines(self):
        self.assertIn("name the output_dir", self.report(code=2))
        self.assertIn("unknown option --htm", self.report("run", "--htm", "x", code=2))
        self.assertIn("--html needs a file", self.report("run", "--html", code=2))
        self.assertIn("fpdist_report RUN", self.report("--help"))

    def test_what_was_read_is_not_written_over(self):
        run = self.run_of("mine", [step(1)])
        os.link(run / "metrics.jsonl", self.folder / "other.html")
        for page in (run / "metrics.jsonl", run / "config.resolved.yaml", self.folder / "other.html"):
            before = page.read_bytes()
            self.assertIn("give --html another file", self.report(run, "--html", page, code=2))
            self.assertEqual(page.read_bytes(), before)
        for _ in range(2):
            self.report(run, "--html", run / "report.html")
        self.assertIn("disk full", self.report(run, "--html", "/dev/full", code=7))


class Pages(Reports):
    def test_a_page_is_whole_holds_the_numbers_and_loads_nothing(self):
        run = self.run_of("mi<ne&", [step(n) for n in range(1, 21)] + [{"step": 20, "eval_loss": 0.5, "eval_</script>": 1}])
        (run / "costs.yaml").write_text("layers: 1 # <&\n")
        (run / "trace-1.txt").write_text("rank 0 FFFBBB\n")
        page = self.page(run)
        text = page.read_text()
        parsed = Page(text)
        data = json.loads(parsed.scripts[0])["runs"][0]
        self.assertEqual(data["name"], "mi<ne&")
        self.assertEqual(data["training"]["step"], list(range(1, 21)))
        for name, value in step(7).items():
            if name != "step":
                self.assertEqual(data["training"]["column"][name][6], value if not isinstance(value, float) else float(f"{value:.7g}"), name)
        self.assertEqual(data["evaluation"], {"step": [20], "column": {"eval_loss": [0.5], "eval_</script>": [1]}})
        self.assertIsNone(re.search(r"<(link|img|iframe|object)\b|\b(src|href)=|@import|//[a-z]|https?:", text.replace("// ", "")))
        for words in ("<h1>mi&lt;ne&amp;</h1>", "layers: 1 # &lt;&amp;", "rank 0 FFFBBB", "train.max_steps: 20", "20 of 20"):
            self.assertIn(words, text)

    def test_a_long_run_is_thinned_by_means(self):
        run = self.run_of("long", [{"step": n, "loss": float(n % 2)} for n in range(1, 4001)] + [{"step": 4001, "loss": 3.0}], method=None)
        page = self.page(run)
        data = data_of(page)["runs"][0]["training"]
        self.assertEqual(len(data["step"]), 1334)
        self.assertEqual(data["step"][:2] + data["step"][-1:], [3, 6, 4001])
        self.assertEqual(data["column"]["loss"][:2] + data["column"]["loss"][-1:], [0.6666667, 0.3333333, 1.5])
        self.assertIn("the mean of 3 lines", page.read_text())

    def test_runs_of_different_methods_come_into_one_page(self):
        other = self.run_of("sft", [{"step": n, "loss": 2.0, "perplexity": 7.4} for n in range(1, 4)], method="sft")
        page = self.page(self.run_of("dpo", [step(1), step(2)]), other)
        self.assertEqual([run["name"] for run in data_of(page)["runs"]], ["dpo", "sft"])
        self.assertIn("<td>method</td><td>dpo</td><td>sft</td>", page.read_text())


if __name__ == "__main__":
    unittest.main()
