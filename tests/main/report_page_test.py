#!/usr/bin/env python3
"""The page of fpdist_report in a browser without a screen. Usage: report_page_test.py FPDIST_REPORT
Ends with 77 (skipped) where no Chromium is installed."""
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from report_support import Reports, step

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)


class Drawn(Reports):
    def open(self, page, hash_part=""):
        """The page as the browser has it once its script has run."""
        done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1400,900",
                               f"--user-data-dir={self.folder / 'profile'}", "--dump-dom", page.as_uri() + hash_part],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line for line in done.stderr.splitlines() if "CONSOLE" in line], [])
        return done.stdout

    def charts(self, dom):
        """Title to drawing."""
        return dict(re.findall(r"<figure.*?<b>(.*?)</b>(.*?)</figure>", dom, re.S))

    def test_a_run_alone(self):
        run = self.run_of("mine", [step(n) for n in range(1, 21)] + [{"step": 10, "eval_perplexity": 1.5}])
        lines = (run / "metrics.jsonl").read_text().splitlines()
        (run / "metrics.jsonl").write_text("\n".join(lines[:10] + ['{"step": 10, "eval_loss": 0.5, "eval_perplexity": 1.5}'] + lines[10:20]) + "\n")
        charts = self.charts(self.open(self.page(run)))
        for title in ("loss", "rewards/margins", "rewards/accuracies", "rewards, rejected dashed", "grad_norm", "learning_rate", "tokens_per_second",
                      "sharing, possible dashed", "seconds in packs, planned dashed", "bubble, planned dashed", "comm/dp_cp_bytes", "eval_perplexity"):
            self.assertRegex(charts[title], r'<path class="(main|points)" [^>]*d="M[0-9. ]+', title)
        self.assertEqual(charts["loss"].count('<path class="raw"'), 1)
        self.assertEqual(charts["loss"].count('<path class="eval"'), 1)
        self.assertEqual(charts["loss"].count("<circle"), 1)
        self.assertIn('class="second"', charts["seconds in packs, planned dashed"])
        for nothing_to_see in ("comm/tp_bytes", "mfu", "stage_imbalance", "memory, peak and now"):
            self.assertNotIn(nothing_to_see, charts)
        self.assertNotIn("NaN", "".join(charts.values()))

    def test_a_step_that_is_pointed_at_shows_every_run(self):
        runs = [self.run_of(name, [step(n, loss=loss) for n in range(1, 21)]) for name, loss in (("a", 0.25), ("b", 0.5), ("c", 0.75))]
        dom = self.open(self.page(*runs), "#step=7&smooth=0")
        charts = self.charts(dom)
        self.assertEqual(charts["loss"].count('<path class="main"'), 3)
        self.assertEqual(charts["loss"].count('class="cross"'), 1)
        self.assertEqual(charts["loss"].count('class="dot"'), 3)
        self.assertEqual(charts["grad_norm"].count('class="cross"'), 1, "the crosshair goes through all drawings")
        self.assertEqual(re.findall(r"</i>([\d.]+)</span>", charts["loss"]), ["0.25", "0.5", "0.75"])
        self.assertEqual(re.findall(r"</i>([\d.]+)</span>", charts["rewards/margins"]), ["1.4"] * 3)
        tip = re.search(r'<div id="tip".*', dom, re.S).group()
        self.assertEqual(tip.count("step 7"), 3)
        for value in ("0.25", "0.5", "0.75"):
            self.assertIn(f"<td>{value}</td>", tip)

    def test_runs_with_little_or_nothing_in_them(self):
        runs = [self.run_of("none", [], end=""), self.run_of("one", [step(1)]), self.run_of("sft", [{"step": n, "loss": None} for n in (1, 2)], method="sft"),
                self.run_of("flat", [{"step": n, "loss": 1 + 1e-16 * n, "a": 1e300, "b": -3e-12, "c": n * 1e9} for n in range(1, 9)])]
        for shown in (runs, runs[:1], runs[1:2], runs[2:3], runs[3:]):
            dom = self.open(self.page(*shown), "#step=1")
            self.assertIn("<h2>All numbers</h2>", dom)
            self.assertNotIn("NaN", "".join(self.charts(dom).values()))


if __name__ == "__main__":
    if BROWSER is None:
        print("SKIPPED: no chromium, chromium-browser or google-chrome is installed; the page was not opened")
        sys.exit(77)
    unittest.main()
