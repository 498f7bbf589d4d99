#!/usr/bin/env python3
"""fpdist_train on a terminal: the bar, what stays above it, and silence. Usage: terminal_test.py BIN_DIR MPIRUN"""
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

BIN, MPIRUN = pathlib.Path(sys.argv.pop(1)), sys.argv.pop(1)
LIMIT = 240  # seconds that no run of these tests may take


class Terminal(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        rows = [{"prompt_ids": list(range(1, 20)), "chosen_ids": [30, 31 + i % 3], "rejected_ids": [30, 60 + i % 5, 61]} for i in range(8)]
        (self.dir / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.line = [BIN / "fpdist_train", "--method", "dpo", "--model.preset", "tiny", "--data.path", self.dir / "pairs.jsonl",
                     "--train.groups_per_step", 4, "--train.max_steps", 5, "--train.output_dir", self.dir / "out",
                     "--train.overwrite_output_dir", "--train.save_steps", 2, "--train.eval_steps", 3, "--data.eval_path", self.dir / "pairs.jsonl"]

    def environment(self, **variables):
        env = dict(os.environ, OMP_NUM_THREADS="1", OMPI_MCA_rmaps_base_oversubscribe="1", LC_ALL="C.UTF-8", TERM="xterm")
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        env.update(variables)
        return env

    def on_terminal(self, width, *arguments, launcher=(), **variables):
        """What a run prints on a terminal of `width` columns."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        process = subprocess.Popen([str(word) for word in (*launcher, *self.line, *arguments)], stdin=subprocess.DEVNULL, stdout=theirs,
                                   stderr=theirs, env=self.environment(**variables))
        os.close(theirs)
        said, deadline = b"", time.monotonic() + LIMIT
        try:
            while time.monotonic() < deadline:
                if select.select([ours], [], [], 1)[0]:
                    said += os.read(ours, 65536)
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(ours)
            if time.monotonic() >= deadline:
                process.kill()
        self.assertEqual(process.wait(timeout=LIMIT), 0, said.decode())
        return said.decode()

    def bars(self, said):
        return [line for line in re.split(r"[\r\n]|\x1b\[K", said) if re.match(r" *\d+%", line)]

    def test_the_bar_fits_shows_what_goes_on_and_lines_stay_above_it(self):
        said = self.on_terminal(120)
        bars = self.bars(said)
        self.assertTrue(bars)
        self.assertLess(max(map(len, bars)), 120)
        for phase in ("saving checkpoint-2", "evaluating", "saving checkpoint-4"):
            self.assertTrue(any(phase in bar for bar in bars), bars)
        self.assertRegex(bars[0], r"^  0%\|.*\|  0/5")
        self.assertRegex(bars[-1], r"^100%\|█+\|  5/5  saving final")
        steps = [json.loads(line) for line in (self.dir / "out/metrics.jsonl").read_text().splitlines() if "eval_loss" not in line]
        sums, weight = 0, 0
        for step in steps:
            sums, weight = 0.9 * sums + 0.1 * step["loss"], 0.9 * weight + 0.1
        self.assertIn(f"loss {sums / weight:.4g}", bars[-1])
        self.assertEqual(said.count("step 1/5"), 0)
        self.assertRegex(said, r"\r\x1b\[Kdone: \d+ tokens computed")
        self.assertTrue(said.endswith("\r\n"), repr(said[-80:]))
        log = (self.dir / "out/logs/rank_0.log").read_text()
        self.assertEqual(len(re.findall(r" info step \d/5  loss ", log)), 5)

    def test_mpirun_s_terminal_is_the_one_that_counts(self):
        bars = self.bars(self.on_terminal(48, launcher=(MPIRUN, "-np", "2"), LC_ALL="C"))
        self.assertRegex(bars[-1], r"^100%\|#+\|  5/5  saving final$")
        self.assertLess(max(map(len, bars)), 48)

    def test_what_is_no_terminal_gets_plain_lines(self):
        plain = subprocess.run([str(word) for word in self.line], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               env=self.environment(), timeout=LIMIT)
        self.assertEqual(plain.returncode, 0, plain.stderr)
        for said in (plain.stdout, self.on_terminal(100, TERM="dumb").replace("\r\n", "\n")):
            self.assertNotRegex(said, r"\x1b|\r|%\|")
            self.assertEqual(len(re.findall(r"^step \d/5  loss ", said, re.M)), 5, said)

    def test_quiet_says_nothing_but_what_is_wrong(self):
        self.assertEqual(self.on_terminal(100, "--quiet"), "")
        self.assertEqual(len((self.dir / "out/metrics.jsonl").read_text().splitlines()), 7)
        wrong = subprocess.run([*map(str, self.line), "--quiet", "--optim.learning_rate", "1e38", "--optim.lr_scheduler_type", "constant"],
                               stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self.environment(), timeout=LIMIT)
        self.assertEqual(wrong.returncode, 5, wrong.stderr)
        self.assertEqual(wrong.stdout, "")
        self.assertIn("error: ", wrong.stderr)


if __name__ == "__main__":
    unittest.main()
