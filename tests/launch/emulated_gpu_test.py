#!/usr/bin/env python3
"""fpdist_train on GPUs that the CPU emulates: which rank takes which, what is refused, and what runs out.
Usage: emulated_gpu_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import BIN, Folder, command, main, mesh, run, steps

LIBRARY = BIN.parent / "emulated_gpu/libcuda.so.1"


class EmulatedGpu(Folder):
    def on_gpus(self, ranks, *arguments, preload="LD_PRELOAD", **settings):
        """Exit code and output. The library is for the program alone, not for mpirun."""
        line = command(ranks, arguments)
        words = [f"{name}={value}" for name, value in settings.items()]
        return run(line[:-len(arguments) - 1] + ["env", f"{preload}={LIBRARY}", *words] + line[-len(arguments) - 1:])

    def arguments(self, out, *more, steps=2):
        data, _ = self.pairs(8)
        return ["--method", "dpo", "--model.preset", "tiny", "--data.path", data, "--train.max_steps", steps,
                "--train.groups_per_step", 4, "--train.output_dir", self.dir / out, *more]

    def test_every_rank_has_a_gpu_of_its_own_and_learns_what_the_cpu_learns(self):
        # As in a container that allows TF32; the emulated GPU refuses it, and what else a run needs whose bits are promised.
        code, output = self.on_gpus(2, *self.arguments("two", "--model.device", "cuda"), FPDIST_EMULATED_GPUS=2,
                                    TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1, FPDIST_EMULATED_PROMISE=1)
        self.assertEqual(code, 0, output)
        for rank in range(2):
            log = (self.dir / f"two/logs/rank_{rank}.log").read_text()
            self.assertIn(f"GPU {rank}: emulated on the CPU", log)
        code, output = run(command(2, self.arguments("cpu", "--model.device", "cpu")))
        self.assertEqual(code, 0, output)
        code, output = self.on_gpus(2, *self.arguments("staged", "--model.device", "cuda", "--comm.transport", "staged"), FPDIST_EMULATED_GPUS=2)
        self.assertEqual(code, 0, output)
        for run_on_gpus in ("two", "staged"):
            for gpu, cpu in zip(steps(self.dir / run_on_gpus), steps(self.dir / "cpu"), strict=True):
                for name in ("loss", "grad_norm"):
                    self.assertAlmostEqual(gpu[name], cpu[name], delta=1e-5 * max(1.0, abs(cpu[name])))
                self.assertGreater(gpu["memory/peak_bytes"], 1 << 20)

    def test_more_ranks_than_gpus_are_refused_before_anything_is_allocated(self):
        code, output = self.on_gpus(2, *self.arguments("refused", "--model.device", "cuda"))
        self.assertEqual(code, 2, output)
        self.assertIn("1 GPU for 2 ranks on this host", output)

    def test_auto_takes_the_cpu_where_one_rank_has_no_gpu(self):
        """The first rank alone finds a driver."""
        line = self.arguments("mixed", "--model.device", "auto")
        script = self.write("first_only", f'#!/bin/sh\n[ "$OMPI_COMM_WORLD_RANK" = 1 ] || export LD_PRELOAD={LIBRARY}\nexec "$@"\n')
        script.chmod(0o755)
        words = command(2, line)
        code, output = run(words[:3] + ["env", "FPDIST_EMULATED_GPUS=2", str(script)] + words[3:])
        self.assertEqual(code, 0, output)
        self.assertIn("running on the CPU: another rank has no GPU", output)
        self.assertIsNone(steps(self.dir / "mixed")[0].get("memory/peak_bytes"))

    def test_memory_that_runs_out_is_exit_code_6_with_the_pack_that_fits(self):
        data = self.dir / "arithmetic.jsonl"
        code, output = run(command(0, ["--generate", "arithmetic", "--pairs", 16, "--shots", 6, "--output", data], program="fpdist_prepare"))
        self.assertEqual(code, 0, output)
        code, output = self.on_gpus(1, *self.arguments("small", "--model.device", "cuda", "--data.path", data), FPDIST_EMULATED_GPU_MIB=30)
        self.assertEqual(code, 6, output)
        self.assertRegex(output, r"out of memory: .* wanted, .* of 0.03 GiB in use.*pack.max_tokens: \d+ in place of 8192")

    def test_an_older_gpu_has_no_attention_of_ours_to_measure(self):
        code, output = run(["env", f"LD_PRELOAD={LIBRARY}", "FPDIST_EMULATED_SM=75", BIN / "fpdist_bench", "attention", "--device", "cuda",
                            "--shapes", "16", "--heads", "2,1,64"])
        self.assertEqual(code, 2, output)
        self.assertIn("from compute capability 8.0 on, this GPU has 7.5", output)

    def test_a_profile_has_the_devices_times(self):
        code, output = self.on_gpus(2, *self.arguments("profile", "--model.device", "cuda", "--train.profile_steps", 1, "--parallel.dp", 1, "--parallel.pp", 2),
                                    FPDIST_EMULATED_GPUS=2)
        self.assertEqual(code, 0, output)
        events = json.loads((self.dir / "profile/trace-1.json").read_text())["traceEvents"]
        self.assertGreater(sum(event.get("ph") == "X" for event in events), 8)


if __name__ == "__main__":
    main()
