#!/usr/bin/env python3
"""The page of fpdist_plan --html in a browser without a screen. Usage: page_test.py FPDIST_PLAN
Ends with 77 (skipped) where no Chromium is installed."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
SCHEDULES = (("1f1b", 2), ("interleaved", 2), ("zb-h1", 3))  # operations of a unit on a stage, two runs being two


class Page(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.lengths = self.folder / "lengths.jsonl"
        self.lengths.write_text("".join(json.dumps({"prefix": 900 + 70 * i, "completions": [200 + 31 * i, 500]}) + "\n" for i in range(12)))

    def test_it_opens_without_complaint_and_shows_every_operation(self):
        for schedule, operations in SCHEDULES:
            page, out = self.folder / f"{schedule}.html", self.folder / "plan.json"
            subprocess.run([PROGRAM, "--lengths", self.lengths, "--parallel.dp", "2", "--parallel.pp", "4", "--parallel.schedule", schedule,
                            "--compare", "--world-sizes", "8,16", "--html", page, "--json", out],
                           check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            plan = json.loads(out.read_text())
            done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={self.folder / 'profile'}",
                                   "--dump-dom", page.as_uri()], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
            with self.subTest(schedule=schedule):
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn("CONSOLE", done.stderr)
                runs = plan["virtual_stages"]
                boxes = len(re.findall(r'<rect class="[FBW]( odd)?"', done.stdout))
                self.assertEqual(boxes, operations * runs * plan["pp"] * plan["units"])
                self.assertEqual(done.stdout.count('<rect class="idle"'), plan["dp"] * plan["pp"])
                self.assertIn(f"{plan['step_over_ideal']:.3f}", done.stdout)
                self.assertIn(f"{100 * plan['bubble']:.1f}%", done.stdout)
                # No file but its own: nothing is linked, loaded or run.
                self.assertIsNone(re.search(r"<(script|link|img|iframe|object)\b|\b(src|href)=|url\(|@import|http", page.read_text()))


if __name__ == "__main__":
    if BROWSER is None:
        print("SKIPPED: no chromium, chromium-browser or google-chrome is installed; the page was not opened")
        sys.exit(77)
    unittest.main()
