"""examples/python with the line that is ours and without it: the same losses."""

import atexit
import multiprocessing
import os
import pathlib
import re
import runpy
import shutil
import sys
import tempfile
import unittest
import warnings

from support import skip_without

HOME = tempfile.mkdtemp()  # read when the modules are imported
atexit.register(shutil.rmtree, HOME)
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=HOME)
_, _, trl, _, _ = skip_without("torch", "transformers", "trl", "datasets", "accelerate")
TRAINERS = trl.DPOTrainer, trl.GRPOTrainer, trl.RewardTrainer  # named, so that they are read now

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples/python"
OURS = "with fpdist.shared_prefix(trainer.model):  # <-"


def run_example(program, folder, said):
    """In a process that has what the examples import: reading that takes longer than they do."""
    with open(said, "w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    os.chdir(folder)
    sys.path.insert(0, str(EXAMPLES))
    sys.argv = [str(program), f"{folder}/out"]
    warnings.simplefilter("ignore")
    runpy.run_path(str(program), run_name="__main__")
    sys.stdout.flush()


class Examples(unittest.TestCase):
    def losses(self, code, folder):
        program, said = pathlib.Path(folder, "example.py"), pathlib.Path(folder, "said")
        program.write_text(code)
        process = multiprocessing.get_context("fork").Process(target=run_example, args=(program, folder, said))
        process.start()
        process.join()
        self.assertEqual(process.exitcode, 0, said.read_text()[-3000:])
        return [float(number) for number in re.findall(r"^step loss (\S+)$", said.read_text(), re.M)]

    def check(self, name):
        code = (EXAMPLES / name).read_text()
        self.assertIn(OURS, code)
        with tempfile.TemporaryDirectory() as folder:
            shared = self.losses(code, folder)
            plain = self.losses(code.replace(OURS, "if True:"), folder)
        self.assertEqual(len(shared), 4)
        self.assertNotEqual(len(set(shared)), 1)
        for a, b in zip(shared, plain, strict=True):
            self.assertAlmostEqual(a, b, delta=1e-4)

    def test_dpo(self):
        self.check("dpo.py")

    def test_reward(self):
        self.check("reward.py")

    def test_grpo(self):
        self.check("grpo.py")


if __name__ == "__main__":
    unittest.main()
