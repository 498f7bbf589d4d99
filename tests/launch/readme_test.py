#!/usr/bin/env python3
"""The front page keeps its word: its first run, command for command, and every file that a README links to.
Usage: readme_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import tiny_model
from support import BIN, MPIRUN, ROOT, Folder, environment, main


def blocks(page, kind):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.M | re.S)
    return [text for name, text in fenced if name == kind]


class FirstRun(Folder):
    def test_the_first_own_run_is_what_its_commands_do(self):
        page = (ROOT / "README.md").read_text()
        page = page[page.index("## Your first own run"):page.index("## What it does not do")]
        row, = map(json.loads, blocks(page, "json"))
        config, = blocks(page, "yaml")
        commands, = blocks(page, "")
        (self.dir / "models").mkdir()
        tiny_model.make(self.dir / "models/qwen")
        rows = [dict(row, prompt=f"Q: {a}+{b}=", chosen=str(a + b), rejected=str(a + b + 10)) for a in range(10) for b in range(13)]
        (self.dir / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [row, *rows]))
        (self.dir / "mine.yaml").write_text(config)
        (self.dir / "launch").symlink_to(ROOT / "launch")
        (self.dir / "build/release").mkdir(parents=True)
        (self.dir / "build/release/bin").symlink_to(BIN.resolve())
        env = environment()
        env["PATH"] = f"{pathlib.Path(MPIRUN).resolve().parent}:{env['PATH']}"
        done = subprocess.run(["bash", "-euxc", commands], cwd=self.dir, env=env, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertTrue((self.dir / "runs/mine/final/model.safetensors").exists())
        steps = [json.loads(line) for line in (self.dir / "runs/mine/metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in steps if "loss" in line], [1, 2, 3])  # 131 rows, 64 a step
        self.assertIn("<html", (self.dir / "report.html").read_text()[:500])


class Links(unittest.TestCase):
    def test_what_a_page_links_to_is_there(self):
        for page in [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md"), *ROOT.glob("src/*/README.md")]:
            if page.is_relative_to(ROOT / "build"):
                continue
            for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
                if not link.startswith(("http:", "https:")):
                    path, _, heading = link.partition("#")
                    target = page.parent / path if path else page
                    with self.subTest(page=page.name, link=link):
                        self.assertTrue(target.exists(), f"{page.relative_to(ROOT)} links to {link}")
                        headings = [re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                                    for line in target.read_text().splitlines() if line.startswith("#")] if heading else [heading]
                        self.assertIn(heading, headings, f"{page.relative_to(ROOT)} links to {link}")


if __name__ == "__main__":
    main()
