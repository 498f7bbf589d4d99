"""What the tests of fpdist_report share: made-up runs, and the program."""
import html.parser
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
CONFIG = "method: {method}\nmodel:\n  preset: tiny\ndata:\n  path: [rows.jsonl]\ntrain:\n  max_steps: 20\n  output_dir: {out}\n" \
         "optim:\n  learning_rate: {rate}\n"


def step(number, **more):
    """A line of training, as a DPO run on two ranks writes it."""
    line = {"step": number, "loss": 0.7 * math.exp(-number / 10), "rewards/chosen": number / 9, "rewards/rejected": -number / 8,
            "rewards/margins": number / 5, "rewards/accuracies": 0.75, "grad_norm": 1.25, "learning_rate": 1e-6 * number,
            "epoch": number / 10, "num_tokens": 1000 * number, "tokens_logical": 1000, "tokens_computed": 400, "sharing_ratio": 2.5,
            "sharing_possible": 3.0, "seconds": 2.0, "measured_seconds": 1.5, "planned_seconds": None if number == 1 else 1.0,
            "tokens_per_second": 500.0, "bubble": 0.125, "planned_bubble": 0.1, "exposed_communication": 0.03, "mfu": None,
            "replica_imbalance": 1.0, "stage_imbalance": 1.0, "comm/dp_cp_bytes": 3 << 20, "comm/tp_bytes": 0}
    return {**line, **more}


class Page(html.parser.HTMLParser):
    """Tags of a page, which must be closed in order, and the texts of its scripts."""
    EMPTY = {"meta", "input", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.scripts = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        expected = self.open.pop()
        assert tag == expected or (expected, tag) == ("li", "ul"), (tag, expected)

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            self.scripts.append(text)


class Reports(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_of(self, name, lines, method="dpo", rate="1.0e-06", end="\n"):
        """The folder of a run with these lines; without a method it has no configuration."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end)
        if method:
            (folder / "config.resolved.yaml").write_text(CONFIG.format(method=method, out=folder, rate=rate))
        return folder

    def report(self, *arguments, code=0):
        done = subprocess.run([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def page(self, *runs):
        page = self.folder / "page.html"
        self.report(*runs, "--html", page)
        return page
