#!/usr/bin/env python3
"""A run that is killed anywhere, and started again with `auto` as often as it takes, ends as the run that never stopped: the
weights, and metrics.jsonl but for what the clock says, to the last bit. A rank is killed ahead of one of the calls by which
it changes output_dir (tests/support/faults), or at any time.
Usage: kill_sweep_test.py BIN_DIR MPIRUN [unittest arguments]; LongSweep is 200 kills, FPDIST_KILLS says another number."""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import (BIN, ROOT, Folder, children_of, command, end_processes, environment, main, mesh, nodes, steps_without_times,
                     wait_until)
from nodes_test import can_name_hosts

RANKS, STEPS = 4, 6
FAULTS = BIN.parent / "lib/libfpdist_fault_calls.so"
ON_TWO_NODES = nodes(("nodea", "nodeb"), 2)
KILLED, LIMIT = 3, 120  # kills of a run at most before it may end; seconds that a start may take


class Sweep(Folder):
    def setUp(self):
        super().setUp()
        self.kills, self.starts, self.runs = 0, 0, 0
        self.rng = random.Random(15)

    def tokens(self):
        return self.pairs(24)[0]

    def words(self):
        rows = [{"prompt": f"Say {i % 4}, then", "chosen": f" {i} and {i + 1}", "rejected": f" {i}"} for i in range(24)]
        return self.write("words.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def configure(self, data, arguments, **options):
        self.options = arguments
        self.yaml = self.config(data, groups_per_step=4, max_steps=STEPS, save_steps=2, save_total_limit=1,
                                resume_from_checkpoint="auto", **options)

    def start(self, out, fault=None, launcher=()):
        """A started run; `fault`: settings of the preloaded library."""
        self.starts += 1
        line = command(RANKS, [self.yaml, *mesh(dp=2, tp=2), "--train.output_dir", out, *self.options], launcher)
        if fault:
            program = line.index(str(BIN / "fpdist_train"))
            settings = {"LD_PRELOAD": FAULTS, "FPDIST_FAULT_FOLDER": out, **fault}
            line[program:program] = ["env", *(f"{name}={value}" for name, value in settings.items())]
        with open(self.dir / "output", "w") as output:
            return subprocess.Popen(line, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def output(self):
        return (self.dir / "output").read_text()

    def end(self, process):
        """Its exit code."""
        try:
            return process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            end_processes([*children_of(process.pid, "fpdist_train"), process.pid])
            process.wait()
            self.fail("not over: " + self.output())

    def calls(self, out):
        """By rank, the calls of a whole run that a kill may come ahead of."""
        counts = self.dir / "counts"
        counts.unlink(missing_ok=True)
        self.assertEqual(self.end(self.start(out, {"FPDIST_FAULT_COUNT": counts})), 0, self.output())
        return {int(rank): int(count) for rank, count in map(str.split, counts.read_text().splitlines())}

    def kill_at_call(self, out, rank, call, launcher):
        """Whether the run came so far."""
        fault = {"FPDIST_FAULT": "kill", "FPDIST_FAULT_RANK": rank, "FPDIST_FAULT_AT": call}
        code = self.end(self.start(out, fault, launcher))
        came = "fault: kill at call" in self.output()
        self.assertEqual(code != 0, came, self.output())
        self.kills += came
        return came

    def kill_at_any_time(self, out, launcher):
        process, metrics, lines = self.start(out, launcher=launcher), out / "metrics.jsonl", self.rng.randrange(STEPS)
        wait_until(lambda: process.poll() is not None or (metrics.exists() and metrics.read_text().count("\n") >= lines), LIMIT)
        time.sleep(self.rng.random() * 0.2)
        ranks = children_of(process.pid, "fpdist_train")
        if not ranks or process.poll() is not None:
            return self.end(process) != 0
        os.kill(self.rng.choice(ranks), signal.SIGKILL)
        killed = self.end(process) != 0
        self.kills += killed
        return killed

    def check(self, unbroken, out):
        self.runs += 1
        self.assertEqual(steps_without_times(out), steps_without_times(unbroken))
        self.assertEqual((out / "final/model.safetensors").read_bytes(), (unbroken / "final/model.safetensors").read_bytes())
        left = sorted(path.name for path in out.rglob("*") if re.search(r"\.(tmp|replaced)$|run\.lock", path.name))
        self.assertEqual(left, [])

    def sweep(self, kills, data, launcher=(), every_call=(), arguments=(), **options):
        """`every_call`: ranks that are killed ahead of each of their calls first, as far as `kills` last."""
        self.configure(data, arguments, **options)
        unbroken, out, last = self.dir / "unbroken", self.dir / "killed", self.kills + kills
        shutil.rmtree(unbroken, ignore_errors=True)
        calls = self.calls(unbroken)
        points = [(rank, call) for rank in every_call for call in range(1, calls[rank] + 1)]
        while self.kills < last:
            shutil.rmtree(out, ignore_errors=True)
            for _ in range(KILLED):
                if points:
                    came = self.kill_at_call(out, *points.pop(0), launcher)
                elif self.rng.random() < 0.7:
                    rank = self.rng.choice([0, 0, *range(RANKS)])
                    came = self.kill_at_call(out, rank, self.rng.randrange(1, calls[rank] + 1), launcher)
                else:
                    came = self.kill_at_any_time(out, launcher)
                if not came or self.kills == last:
                    break
            self.assertEqual(self.end(self.start(out, launcher=launcher)), 0, self.output())
            self.check(unbroken, out)
        print(f"{self.kills} kills, {self.starts} starts, {self.runs} runs that ended as the unbroken one", flush=True)


class KillSweep(Sweep):
    def test_a_killed_run_is_the_unbroken_one(self):
        self.sweep(8, self.tokens())


class FullDisk(Sweep):
    def test_a_call_that_fails_ends_the_run_with_7_or_is_no_harm(self):
        self.configure(self.tokens(), ())
        unbroken, out = self.dir / "unbroken", self.dir / "full"
        calls, codes = self.calls(unbroken), set()
        for rank in (0, 1):
            for call in self.rng.sample(range(calls[rank] // 3, calls[rank]), 2):
                shutil.rmtree(out, ignore_errors=True)
                code = self.end(self.start(out, {"FPDIST_FAULT": "ENOSPC", "FPDIST_FAULT_RANK": rank, "FPDIST_FAULT_AT": call}))
                self.assertIn(code, (0, 7), self.output())  # what a log loses is said, and training goes on
                codes.add(code)
                self.assertEqual(self.end(self.start(out)), 0, self.output())
                self.check(unbroken, out)
        self.assertIn(7, codes)


class LongSweep(Sweep):
    def test_of_two_hundred_kills_none_is_seen(self):
        kills = int(os.environ.get("FPDIST_KILLS", 200))
        part = kills // 4
        self.sweep(kills - 3 * part, self.tokens(), every_call=[0], save_async="false")
        self.sweep(part, self.tokens(), every_call=[0])
        cached = ["--data.cache_dir", self.dir / "cache"]
        self.sweep(part, self.words(), arguments=cached)
        if can_name_hosts():
            self.sweep(part, self.words(), ON_TWO_NODES, arguments=cached)


if __name__ == "__main__":
    main()
