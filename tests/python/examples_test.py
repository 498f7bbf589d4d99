"""examples/python with the line that is ours and without it: the same losses."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from support import skip_without

skip_without("torch", "transformers", "trl", "datasets", "accelerate")

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples/python"
OURS = "with fpdist.shared_prefix(trainer.model):  # <-"


class Examples(unittest.TestCase):
    def losses(self, code, folder):
        environment = {**os.environ, "PYTHONPATH": f"{EXAMPLES}:{os.environ.get('PYTHONPATH', '')}", "HF_HUB_OFFLINE": "1",
                       "HF_HOME": folder}
        program = pathlib.Path(folder, "example.py")
        program.write_text(code)
        done = subprocess.run([sys.executable, "-W", "ignore", program, f"{folder}/out"], capture_output=True, text=True,
                              env=environment, cwd=folder)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        return [float(number) for number in re.findall(r"^step loss (\S+)$", done.stdout, re.M)]

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
