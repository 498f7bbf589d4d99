#!/usr/bin/env python3
"""Harm to a training job: it ends with an error within the timeout, says where it stood, and leaves nothing behind.
Usage: fault_program_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import (ROOT, Folder, children_of, command, end_processes, environment, is_running, main, mesh, steps,
                     train, wait_until)

TIMEOUT, GRACE = 4, 2  # seconds: train.comm_timeout_seconds, and what ending may take on top
PEER_LOST = 8          # exit code
MESHES = {"tp2cp2": dict(cp=2, tp=2), "tp2cp2pp2": dict(pp=2, cp=2, tp=2), "dp8": dict(dp=8)}


class Job:
    """A training run that goes on until it is harmed."""

    def __init__(self, test, degrees):
        data, _ = test.pairs(64)
        config = test.config(data, comm_timeout_seconds=TIMEOUT, groups_per_step=8, max_steps=1000000)
        self.test, self.out, self.size = test, test.dir / "out", 1
        for degree in degrees.values():
            self.size *= degree
        with open(test.dir / "output", "w") as output:
            self.launcher = subprocess.Popen(command(self.size, [config, *mesh(**degrees)]), cwd=ROOT,
                                             env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        test.addCleanup(self.end)
        self.ranks = []  # process ids by rank
        wait_until(lambda: self.trains() or self.launcher.poll() is not None, 90)
        test.assertIsNone(self.launcher.poll(), self.output())
        test.assertEqual(len(self.ranks), self.size, "the job did not start to train: " + self.output())

    def end(self):
        end_processes([*self.ranks, self.launcher.pid])
        self.launcher.wait()

    def output(self):
        return (self.test.dir / "output").read_text()

    def trains(self):
        metrics = self.out / "metrics.jsonl"
        if not metrics.exists() or metrics.read_text().count("\n") < 2:
            return False
        of_rank = {}
        for pid in children_of(self.launcher.pid, "fpdist_train"):
            words = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            of_rank[next(int(word.split(b"=")[1]) for word in words if word.startswith(b"OMPI_COMM_WORLD_RANK="))] = pid
        self.ranks = [of_rank[rank] for rank in sorted(of_rank)]
        return len(self.ranks) == self.size

    def harm(self, pid, signal_number):
        """Sends the signal; returns the exit code once the job is over, in time and with nothing left."""
        step, harmed = len(steps(self.out)), time.monotonic()
        os.kill(pid, signal_number)
        everything = lambda: self.launcher.poll() is not None and not any(map(is_running, self.ranks))
        wait_until(everything, TIMEOUT + GRACE)
        took = time.monotonic() - harmed
        left = [rank for rank, process in enumerate(self.ranks) if is_running(process)]
        print(f"signal {signal_number} in step {step + 1} of {self.size} ranks: exit code {self.launcher.poll()} after "
              f"{took:.1f} s", flush=True)
        self.test.assertTrue(everything(), f"not over after {took:.1f} s, ranks left: {left}\n{self.output()}")
        return self.launcher.returncode


class LostRanks(Folder):
    def on_every_mesh(self, harm):
        for name, degrees in MESHES.items():
            with self.subTest(mesh=name):
                harm(Job(self, degrees))
                for file in sorted((self.dir / "out").rglob("*"), reverse=True):
                    file.rmdir() if file.is_dir() else file.unlink()

    def test_a_killed_rank_ends_the_job(self):
        def harm(job):
            self.assertNotEqual(job.harm(job.ranks[job.size // 2], signal.SIGKILL), 0)
        self.on_every_mesh(harm)

    def test_a_stopped_rank_is_8_and_every_other_rank_says_where_it_stood(self):
        def harm(job):
            stopped = job.size - 2
            code = job.harm(job.ranks[stopped], signal.SIGSTOP)
            self.assertEqual(code, PEER_LOST, job.output())
            self.assertRegex(job.output(), r"(?m)^(rank \d+: )?error: \w+, .*on axis \w+.* at step \d+")
            for rank in range(job.size):
                if rank != stopped:
                    self.check_record(job, rank)
        self.on_every_mesh(harm)

    def check_record(self, job, rank):
        file = job.out / f"logs/rank_{rank}.flight.json"
        self.assertTrue(file.exists(), f"no flight record of rank {rank}\n{job.output()}")
        record = json.loads(file.read_text())
        self.assertEqual((record["rank"], record["world_size"]), (rank, job.size))
        self.assertRegex(record["position"], r"^step \d+, op \d+ of \d+: ")
        done = len(steps(job.out))  # rank 0 wrote so many steps down, so no rank can be past the next one
        self.assertIn(int(record["position"].split()[1].rstrip(",")), (done, done + 1))
        self.assertTrue(record["error"])
        self.assertIn("failed", {call["state"] for call in record["calls"]})

    def test_the_ranks_of_a_killed_mpirun_end(self):
        def harm(job):
            self.assertNotEqual(job.harm(job.launcher.pid, signal.SIGKILL), 0)
        self.on_every_mesh(harm)


class OneRanksError(Folder):
    def test_a_loss_that_is_not_finite_on_the_last_stage_is_the_jobs_error(self):
        data, _ = self.pairs()
        config = self.config(data, comm_timeout_seconds=TIMEOUT)
        code, output = train(8, config, *mesh(pp=2, cp=2, tp=2), "--optim.learning_rate", "1e38",
                             "--optim.lr_scheduler_type", "constant")
        self.assertEqual(code, 5, output)
        self.assertRegex(output, r"error: the loss is \S+ at step 2 on rank [4-7] in the pack of samples")
        self.assertEqual(output.count("error: "), 1, output)


if __name__ == "__main__":
    main()
