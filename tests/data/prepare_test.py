#!/usr/bin/env python3
"""fpdist_prepare as a user meets it. Usage: prepare_test.py PROGRAM [unittest arguments]"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)


def prepare(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=30)
    return done.returncode, done.stdout


class Prepare(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.dir = pathlib.Path(temporary.name)
        self.groups = self.dir / "groups.jsonl"
        rows = [{"prompt": f"Q{i}?\nA:", "completions": [f" {i}", " no"], "rewards": [1, 0]} for i in range(30)]
        self.groups.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def many_shot(self, *arguments, **replaced):
        options = {"--input": self.groups, "--tokens": 150, "--questions": 2, "--output": self.dir / "out/rows.jsonl"}
        options.update({"--" + name: value for name, value in replaced.items()})
        flat = [word for name, value in options.items() for word in (name, value)]
        return prepare("--generate", "many-shot", *flat, *arguments)

    def test_many_shot_writes_long_prompts(self):
        code, text = self.many_shot()
        self.assertEqual(code, 0, text)
        rows = [json.loads(line) for line in (self.dir / "out/rows.jsonl").read_text().splitlines()]
        self.assertEqual(len(rows), 2)
        for row in rows:
            self.assertGreaterEqual(len(row["prompt"].encode()), 150)
            self.assertEqual(row["rewards"], [1, 0])

    def test_errors_say_the_cure_and_leave_the_output_alone(self):
        kept = self.dir / "kept.jsonl"
        kept.write_text("kept")
        for code, words, replaced in [(3, "cannot open", {"input": self.dir / "missing.jsonl"}),
                                      (2, "too few worked examples", {"tokens": 100000}),
                                      (2, "30 questions", {"questions": 31}),
                                      (2, "1 or more", {"tokens": 0})]:
            got, text = self.many_shot(output=kept, **replaced)
            self.assertEqual(got, code, text)
            self.assertIn(words, text)
        self.assertEqual(kept.read_text(), "kept")
        code, text = prepare("--generate", "many-shot", "--output", kept)
        self.assertEqual((code, "--input" in text), (2, True), text)
        code, text = prepare("--generate", "poems", "--output", kept)
        self.assertEqual((code, "many-shot" in text), (2, True), text)

    def test_the_input_is_never_the_output(self):
        before = self.groups.read_text()
        link = self.dir / "link.jsonl"
        link.symlink_to("groups.jsonl")
        for output in (self.groups, link, self.dir / "x/../groups.jsonl", f"{self.dir}/./groups.jsonl"):
            (self.dir / "x").mkdir(exist_ok=True)
            code, text = self.many_shot(output=output)
            self.assertEqual((code, "--input" in text and "would be written over" in text), (2, True), text)
            self.assertEqual(self.groups.read_text(), before)

    def test_an_output_that_cannot_be_written_is_7(self):
        code, text = self.many_shot(output=self.groups / "below_a_file.jsonl")
        self.assertEqual((code, "cannot write" in text), (7, True), text)
        if pathlib.Path("/dev/full").exists():
            code, text = self.many_shot(output="/dev/full")
            self.assertEqual((code, "disk full" in text), (7, True), text)


class Data(unittest.TestCase):
    """fpdist_prepare CONFIG: the data as the trainer would see them."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.dir = pathlib.Path(temporary.name)

    def config(self, method, rows, name="rows"):
        data = self.dir / f"{name}.jsonl"
        if rows is not None:
            data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = self.dir / f"{name}.yaml"
        config.write_text(f"method: {method}\nmodel: {{ preset: tiny }}\ndata: {{ path: [{data}], max_length: 24 }}\ntrain: {{ groups_per_step: 4 }}\n")
        return config

    ROWS = {
        "sft": [{"prompt": "Q: 1+1?\n", "completion": "2"}, {"prompt": "Q: 1+2?\n", "completion": "3", "truncated": True},
                {"prompt": "a long question", "completion": "that is cut"}],
        "dpo": [{"prompt": "Q", "chosen": "yes", "rejected": "no", "margin": 0.5, "ref_chosen_logps": -1, "ref_rejected_logps": -2},
                {"prompt": "Q2", "chosen": "ja", "rejected": "nein", "ref_chosen_logps": -3, "ref_rejected_logps": 0}],
        "reward": [{"prompt": "Q", "chosen": "yes", "rejected": "no", "truncated": [True, False]}],
        "grpo of ids": [{"prompt_ids": [5], "completions": [{"ids": [7, 8], "reward": 1}, {"ids": [9, 4], "reward": 0, "prefix_length": 1}]}],
        "grpo": [{"prompt": "Q", "completions": ["a", "bb", "é"], "rewards": [1, 0, 0.25]},
                 {"prompt": "R", "completions": ["x"], "advantages": [-1]}]}

    def test_what_is_dumped_is_read_back_as_it_was(self):
        for method, rows in self.ROWS.items():
            with self.subTest(method):
                first, second = self.dir / "first.jsonl", self.dir / "second.jsonl"
                code, text = prepare(self.config(method.split()[0], rows), "--dump", first)
                self.assertEqual(code, 0, text)
                code, text = prepare(self.config(method.split()[0], None, "first"), "--dump", second)
                self.assertEqual(code, 0, text)
                self.assertEqual(first.read_text(), second.read_text())
        lines = [json.loads(line) for line in first.read_text().splitlines()]
        self.assertEqual(lines[0]["completions"][1], {"ids": [98, 98, 256], "reward": 0.0})

    def test_what_is_read_is_not_dumped_over(self):
        config = self.config("sft", self.ROWS["sft"])
        for file in (self.dir / "rows.jsonl", config):
            before = file.read_text()
            second_name = self.dir / "second_name"
            second_name.hardlink_to(file)
            for dump in (file, second_name):
                code, text = prepare(config, "--dump", dump)
                self.assertEqual((code, "would be written over" in text), (2, True), text)
                self.assertEqual(file.read_text(), before)
            second_name.unlink()

    def test_rows_are_shown_with_what_is_learned_and_their_tree(self):
        code, text = prepare(self.config("dpo", self.ROWS["dpo"]), "--show", 1)
        self.assertEqual(code, 0, text)
        for words in ("group 0: 2 samples of 9 tokens, 8 computed", "Q«yes»", "Q«no»", "└─ 1  Q\n   ├─ 4  yes\n   └─ 3  no",
                      "data       2 groups, 4 samples", "sharing    ", "1.17x in groups", "data.batching: prefix", "largest shared prefixes", "  1, 4  Q\n  2, 2  Q2\n"):
            self.assertIn(words, text)
        self.assertNotIn("group 1:", text)

    def test_the_report_is_also_json_and_a_page(self):
        rows = [{"prompt": f"<b>Question</b> & {i % 3}\n", "completion": "x" * (i % 7 + 1)} for i in range(60)]
        report, page = self.dir / "new/report.json", self.dir / "new/page.html"
        code, text = prepare(self.config("sft", rows), "--report", report, "--html", page, "--data.max_length", 64)
        self.assertEqual(code, 0, text)
        told = json.loads(report.read_text())
        self.assertEqual((told["groups"], told["samples"], told["dropped_rows"]), (60, 60, 0))
        for of, longest in [("prompt", 20), ("completion", 8), ("sample", 28), ("group", 28)]:
            lengths = told["lengths"][of]
            self.assertEqual(lengths["longest"], longest)
            self.assertEqual(sum(bar["count"] for bar in lengths["histogram"]), 60)
            self.assertTrue(all(bar["from"] < bar["to"] for bar in lengths["histogram"]))
        sharing = told["sharing"]
        self.assertEqual(sharing["groups"], 1)
        self.assertTrue(1 < sharing["step_shuffle"] <= sharing["step_prefix"] <= sharing["all"], sharing)
        largest = told["largest_shared_prefixes"]
        self.assertEqual((largest[0]["tokens"], largest[0]["samples"], largest[0]["saved"]), (18, 60, 18 * 59))
        self.assertEqual(largest[0]["text"], "<b>Question</b> & ")
        html = page.read_text()
        for words in ("<h1>Data</h1>", "Sharing to expect", "Largest shared prefixes", "&lt;b>Question&lt;/b> &amp; ", "</html>"):
            self.assertIn(words, html)
        for outside in ("http://", "https://", "src=", "<b>Question"):
            self.assertNotIn(outside, html)
        self.assertIn(f"wrote {page}", text)
        code, text = prepare(self.config("sft", None), "--report", self.dir / "rows.jsonl")
        self.assertEqual((code, "would be written over" in text), (2, True), text)

    def test_the_figures_of_groups_are_a_hand_count(self):
        report, page = self.dir / "report.json", self.dir / "page.html"
        rows = [{"prompt": f"Q{i}?\nA:", "completions": [f" {i}", " no"], "rewards": [1, 0]} for i in range(30)]
        code, text = prepare(self.config("grpo", rows), "--report", report, "--html", page)
        self.assertEqual(code, 0, text)
        told = json.loads(report.read_text())
        prompts = sorted(len(row["prompt"]) for row in rows)
        answers = sorted(len(one) + 1 for row in rows for one in row["completions"])  # and the end of sequence
        self.assertEqual((told["groups"], told["samples"], told["targets"]), (30, 60, sum(answers)))
        self.assertEqual(told["tokens"], 2 * sum(prompts) + sum(answers))
        html = page.read_text()
        for of, lengths in (("prompt", prompts), ("completion", answers)):
            said = told["lengths"][of]
            # A prompt counts with each of its answers.
            self.assertAlmostEqual(said["mean"], sum(lengths) / len(lengths))
            self.assertEqual((said["shortest"], said["longest"]), (lengths[0], lengths[-1]))
            self.assertEqual(said["half_up_to"], lengths[int(0.5 * (len(lengths) - 1) + 0.5)])
            self.assertEqual(said["95_percent_up_to"], lengths[int(0.95 * (len(lengths) - 1) + 0.5)])
            for length in set(lengths):
                times = lengths.count(length) * (2 if of == "prompt" else 1)
                self.assertIn({"from": length, "to": length + 1, "count": times}, said["histogram"])
                self.assertIn(f"<title>{times} of {length} tokens</title>", html)

    def test_reading_is_told_on_a_terminal(self):
        import pty

        here, there = pty.openpty()
        with subprocess.Popen([PROGRAM, self.config("sft", self.ROWS["sft"])], stdout=there, stderr=there) as running:
            self.assertEqual(running.wait(timeout=30), 0)
        os.close(there)
        told = os.read(here, 1 << 16).decode()
        os.close(here)
        self.assertRegex(told, r"\[#{20}\] 100 %  3 rows, \d+ rows/s, [\d.]+ MB/s, 0:00")
        self.assertNotIn("rows/s", prepare(self.config("sft", None))[1])

    def test_weights_are_dumped(self):
        rows = {"sft": [{"prompt": "Q", "completion": "ab", "weight": 0.5}, {"prompt": "Q", "completion": "ab"}],
                "dpo": [{"prompt": "Q", "chosen": "a", "rejected": "b", "weight": 3}],
                "grpo": [{"prompt": "Q", "completions": ["a", "b"], "rewards": [1, 0], "weight": 2}]}
        for method, of_method in rows.items():
            with self.subTest(method):
                first, second = self.dir / "first.jsonl", self.dir / "second.jsonl"
                code, text = prepare(self.config(method, of_method), "--dump", first)
                self.assertEqual(code, 0, text)
                code, text = prepare(self.config(method, None, "first"), "--dump", second)
                self.assertEqual(code, 0, text)
                self.assertEqual(first.read_text(), second.read_text())
                self.assertIn('"weight":', first.read_text())

    def test_mistakes_are_named(self):
        config = self.config("sft", self.ROWS["sft"])
        for code, words, arguments in [(2, "--show is x", ["--show", "x"]), (2, "--dump needs a value", ["--dump"]),
                                       (2, "unknown key", ["--shows", "1"]), (7, "cannot write", ["--dump", config / "below.jsonl"])]:
            got, text = prepare(config, *arguments)
            self.assertEqual(got, code, text)
            self.assertIn(words, text)
        code, text = prepare(self.config("sft", [{"prompt": "a"}]))
        self.assertEqual((code, "missing column 'completion'" in text), (3, True), text)
        code, text = prepare("--help")
        self.assertEqual((code, "--dump FILE" in text), (0, True), text)


if __name__ == "__main__":
    unittest.main()
