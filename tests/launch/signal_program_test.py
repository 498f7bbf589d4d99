#!/usr/bin/env python3
"""Signals to a training job: it finishes its step, saves, and ends with 75; started again, it is the run that never stopped.
Usage: signal_program_test.py BIN_DIR MPIRUN [unittest arguments]"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import ROOT, Folder, children_of, command, end_processes, environment, main, steps, steps_without_times, wait_until

STOPPED, STEPS, LIMIT = 75, 40, 60


def is_pending(pid, number):
    """Whether a process has been sent the signal and not met it yet."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    return any(int(line.split()[1], 16) >> (number - 1) & 1 for line in lines if line.startswith(("SigPnd", "ShdPnd")))


class Signals(Folder):
    def setUp(self):
        super().setUp()
        data, _ = self.pairs(24)
        self.out = self.dir / "out"
        self.yaml = self.config(data, groups_per_step=4, max_steps=STEPS)

    def start(self, ranks, *arguments):
        with open(self.dir / "output", "w") as output:
            process = subprocess.Popen(command(ranks, [self.yaml, *arguments]), cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=output)
        self.addCleanup(lambda: (end_processes([*children_of(process.pid, "fpdist_train"), process.pid]), process.wait()))
        metrics = self.out / "metrics.jsonl"
        wait_until(lambda: process.poll() is not None or (metrics.exists() and metrics.read_text().count("\n") >= 2), LIMIT)
        self.assertIsNone(process.poll(), self.output())
        return process

    def output(self):
        return (self.dir / "output").read_text()

    def check_stopped(self, process):
        self.assertEqual(process.wait(LIMIT), STOPPED, self.output())
        done = len(steps(self.out))
        self.assertLess(done, STEPS)
        self.assertTrue((self.out / f"checkpoint-{done}/manifest.json").exists(), self.output())
        self.assertFalse((self.out / "final").exists())
        self.assertRegex(self.output(), rf"asked to stop: \S+/checkpoint-{done} is saved")

    def check_goes_on(self, ranks):
        self.train(ranks, self.yaml, "--train.resume_from_checkpoint", "auto")
        whole = self.dir / "whole"
        self.train(ranks, self.yaml, "--train.output_dir", whole)
        self.assertEqual(steps_without_times(self.out), steps_without_times(whole))
        self.assertEqual((self.out / "final/model.safetensors").read_bytes(), (whole / "final/model.safetensors").read_bytes())

    def test_mpirun_hands_on_usr1(self):
        process = self.start(2)
        process.send_signal(signal.SIGUSR1)
        self.check_stopped(process)
        self.check_goes_on(2)

    def test_one_rank_that_is_told_stops_all_at_one_step(self):
        for number in (signal.SIGTERM, signal.SIGUSR1):
            process = self.start(3)
            os.kill(children_of(process.pid, "fpdist_train")[-1], number)
            self.check_stopped(process)
            shutil.rmtree(self.out)

    def test_a_process_alone_stops_at_the_first_interrupt(self):
        process = self.start(0)
        process.send_signal(signal.SIGINT)
        self.check_stopped(process)

    def test_a_second_interrupt_ends_it_at_once(self):
        process = self.start(0, "--train.groups_per_step", 24, "--pack.max_tokens", 64)  # steps that take a while
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not is_pending(process.pid, signal.SIGINT), LIMIT)  # two that come as one are one
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), -signal.SIGINT)


if __name__ == "__main__":
    main()
