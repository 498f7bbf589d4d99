#!/usr/bin/env python3
"""fpdist_prepare as a user meets it. Usage: prepare_test.py PROGRAM [unittest arguments]"""
import json
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

    def test_an_output_that_cannot_be_written_is_7(self):
        code, text = self.many_shot(output=self.groups / "below_a_file.jsonl")
        self.assertEqual((code, "cannot write" in text), (7, True), text)
        if pathlib.Path("/dev/full").exists():
            code, text = self.many_shot(output="/dev/full")
            self.assertEqual((code, "disk full" in text), (7, True), text)


if __name__ == "__main__":
    unittest.main()
