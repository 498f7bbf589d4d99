#!/usr/bin/env python3
"""Harm to a training job: it ends with an error within the timeout, says where it stood, and leaves nothing behind.
Usage: fault_program_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import (BIN, ROOT, Folder, children_of, command, end_processes, environment, is_running, main, mesh, steps,
                     steps_without_times, train, wait_until)

# Seconds: train.comm_timeout_seconds, and what ending may take on top. mpirun ends the others by SIGTERM, which a run takes
# as a wish to stop, and kills them a second later.
TIMEOUT, GRACE = 4, 4
PEER_LOST = 8  # exit code
MESHES = {"tp2cp2": dict(cp=2, tp=2), "tp2cp2pp2": dict(pp=2, cp=2, tp=2), "dp8": dict(dp=8)}


def ranks_of(launcher):
    """Process ids of the ranks that mpirun has started, by rank."""
    of_rank = {}
    for pid in children_of(launcher.pid, "fpdist_train"):
        words = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        of_rank[next(int(word.split(b"=")[1]) for word in words if word.startswith(b"OMPI_COMM_WORLD_RANK="))] = pid
    return [of_rank[rank] for rank in sorted(of_rank)]


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
        self.ranks = ranks_of(self.launcher)
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
        self.assertRegex(output, r"error: step 2: the loss is \S+ on rank [4-7] in pack \d+, samples")
        self.assertEqual(output.count("error: "), 1, output)


class Rollouts(Folder):
    """Two ranks that make their own rollouts, which a program judges: by the tokens, so that it says the same again."""

    def online(self, out, fault):
        """Arguments of a run of four rounds; `fault`: what the judge of rank 1 does with its eighth completion, once."""
        prompts = self.write("prompts.jsonl", "".join(json.dumps({"prompt_ids": [3, 1, i]}) + "\n" for i in range(9)))
        judge = self.write("judge.py", f"""
import json, os, pathlib, sys
once = pathlib.Path({str(self.dir / "once")!r})
for line in map(json.loads, sys.stdin):
    if os.environ["OMPI_COMM_WORLD_RANK"] == "1" and line["id"] >= 8 and not once.exists():
        {fault}
    print(json.dumps({{"id": line["id"], "reward": sum(line["completion_ids"]) % 7}}), flush=True)
""")
        return [self.write("run.yaml", "method: grpo\nmodel: { preset: tiny }\n"
                           f"rollout: {{ prompts: [{prompts}], num_generations: 3, max_completion_length: 4, log_completions: true }}\n"
                           f"reward: {{ command: [python3, {judge}] }}\n"
                           f"train: {{ groups_per_step: 4, max_steps: 4, save_steps: 1, save_async: false, resume_from_checkpoint: auto }}\n"),
                "--train.output_dir", out]

    def test_a_reward_that_fails_on_one_rank_is_3_and_said_once(self):
        code, output = train(2, *self.online(self.dir / "out", "sys.exit('out of keys')"))
        self.assertEqual(code, 3, output)
        self.assertRegex(output, r"error: reward\.command python3 is gone \(completion 8 has no reward; it ended with exit code 1(.|\n)*"
                                 r"out of keys(.|\n)*\(on rank 1\)")
        self.assertEqual(output.count("error: "), 1, output)

    def test_a_rank_that_is_killed_in_a_round_loses_nothing(self):
        whole, killed = self.dir / "whole", self.dir / "killed"
        self.train(2, *self.online(whole, "pass"))
        arguments = self.online(killed, "once.touch(), os.kill(os.getppid(), 9)")
        self.assertNotEqual(train(2, *arguments)[0], 0)
        self.assertTrue((self.dir / "once").exists())
        self.assertEqual(len(steps(killed)), 1, "killed in the second round")
        self.assertIn("after step 1", self.train(2, *arguments))
        self.assertEqual(steps_without_times(killed), steps_without_times(whole))
        for name in ("final/model.safetensors", *(f"completions/step-{step}.jsonl" for step in range(1, 5))):
            self.assertEqual((killed / name).read_bytes(), (whole / name).read_bytes(), name)
        self.assertEqual([path for path in killed.rglob("*") if path.suffix in (".tmp", ".replaced")], [])


class Slow(Folder):
    """Two ranks, of which one is slow in one call (slow_calls.cpp): longer than any may wait without a sign of life."""

    def start(self, call, rank, seconds, *arguments, file="", preload=(), **options):
        data, _ = self.pairs(8)
        self.note = self.dir / "slow"
        settings = {"LD_PRELOAD": ":".join(map(str, [BIN.parent / "lib/libfpdist_slow_calls.so", *preload])), "FPDIST_SLOW_CALL": call,
                    "FPDIST_SLOW_RANK": rank, "FPDIST_SLOW_FILE": file, "FPDIST_SLOW_SECONDS": seconds, "FPDIST_SLOW_NOTE": self.note}
        line = command(2, [self.config(data, comm_timeout_seconds=TIMEOUT, max_steps=2, **options), *arguments])
        program = line.index(str(BIN / "fpdist_train"))
        line[program:program] = ["env", *(f"{name}={value}" for name, value in settings.items())]
        with open(self.dir / "output", "w") as output:
            self.launcher = subprocess.Popen(line, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.addCleanup(self.end)

    def end(self):
        end_processes([self.launcher.pid])
        self.launcher.wait()

    def output(self):
        return (self.dir / "output").read_text()

    def expect_a_good_end(self, *slow, **more):
        self.start(*slow, **more)
        self.assertTrue(wait_until(lambda: self.launcher.poll() is not None, 120), "not over: " + self.output())
        self.assertEqual(self.launcher.returncode, 0, self.output())
        self.assertTrue(self.note.exists(), "nothing was slow")
        self.assertTrue((self.dir / "out/final/config.json").exists())


class SlowRanks(Slow):
    def test_a_save_may_be_slow(self):
        self.expect_a_good_end("fsync", 0, 3 * TIMEOUT, file="/final.tmp/")

    def test_a_checkpoint_on_the_way_may_be_slow(self):
        self.expect_a_good_end("fsync", 0, 2 * TIMEOUT, file="/checkpoint-1.tmp/", save_steps=1)

    def test_the_output_folder_may_be_slow(self):
        self.expect_a_good_end("fsync", 0, 2 * TIMEOUT, file="config.resolved.yaml")

    def test_reading_the_data_may_be_slow(self):
        self.expect_a_good_end("read", 1, 2 * TIMEOUT, file="pairs.jsonl")

    def test_loading_the_weights_may_be_slow(self):
        data, _ = self.pairs(8)
        self.train(1, self.config(data, output_dir=self.dir / "made", max_steps=1))
        self.expect_a_good_end("mmap", 1, 2 * TIMEOUT, "--model.preset", "", "--model.path", self.dir / "made/final",
                               file="model.safetensors")

    def harm(self, rank, signal_number, most):
        """Exit code of a job one of whose ranks is harmed while rank 0 saves, and takes a minute for it."""
        self.start("fsync", 0, 60, file="/final.tmp/")
        self.assertTrue(wait_until(self.note.exists, 90), self.output())
        ranks = ranks_of(self.launcher)
        self.addCleanup(end_processes, ranks)
        self.assertEqual(len(ranks), 2)
        time.sleep(1.5 * TIMEOUT)  # the other one is past its deadline, and waits on
        self.assertIsNone(self.launcher.poll(), self.output())
        harmed = time.monotonic()
        os.kill(ranks[rank], signal_number)
        self.assertTrue(wait_until(lambda: self.launcher.poll() is not None, most), "not over: " + self.output())
        print(f"signal {signal_number} to rank {rank} during the save: exit code {self.launcher.returncode} after "
              f"{time.monotonic() - harmed:.1f} s", flush=True)
        return self.launcher.returncode

    def test_a_rank_that_is_stopped_while_it_saves_is_lost(self):
        self.assertEqual(self.harm(0, signal.SIGSTOP, TIMEOUT + 2 * GRACE), PEER_LOST)
        self.assertRegex(self.output(), r"barrier.* no answer from world rank 0 .*s ago world rank 0 was saving \S+/out/final")

    def test_a_rank_that_is_killed_during_a_save_ends_the_job(self):
        for rank in (0, 1):
            self.assertNotEqual(self.harm(rank, signal.SIGKILL, GRACE), 0)
            self.note.unlink()
            shutil.rmtree(self.dir / "out")


class SlowGpu(Slow):
    def test_the_first_step_on_a_gpu_may_be_slow(self):
        emulated = BIN.parent / "emulated_gpu/libcuda.so.1"
        self.expect_a_good_end("launch", 1, 2 * TIMEOUT + 2, "--model.device", "cuda", "--comm.share_gpus",
                               file=self.dir / "out/config.resolved.yaml", preload=[emulated])


if __name__ == "__main__":
    main(waiting=["SlowRanks"])
