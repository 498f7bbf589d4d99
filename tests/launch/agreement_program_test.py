#!/usr/bin/env python3
"""Ranks of two nodes that were not given the same thing: nothing is trained, and all that differs is named.
Usage: agreement_program_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import BIN, MPIRUN, Folder, main, mesh, run, train


class Agreement(Folder):
    """Folders a and b are what two nodes see; each has a config `run.yaml`, rows, and a model when one is asked for."""

    def setUp(self):
        super().setUp()
        self.nodes = [self.dir / "a", self.dir / "b"]
        rows = [{"prompt_ids": [1, 2, 3], "chosen_ids": [30, 31 + i], "rejected_ids": [60 + i]} for i in range(4)]
        for node in self.nodes:
            node.mkdir()
            (node / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            (node / "run.yaml").write_text("method: dpo\nmodel: { preset: tiny }\ndata: { path: [rows.jsonl] }\n"
                                           "train: { groups_per_step: 2, max_steps: 1, output_dir: out }\n")

    def add_model(self, seed=0):
        """Into both folders, by a run of one step; the path for the runs to come."""
        self.assertEqual(train(1, self.nodes[0] / "run.yaml", "--data.path", self.nodes[0] / "rows.jsonl", "--model.seed", seed,
                               "--train.output_dir", self.dir / "made", "--train.overwrite_output_dir")[0], 0)
        for node in self.nodes:
            shutil.copytree(self.dir / "made/final", node / "model", dirs_exist_ok=True)
        return ["--model.preset", "", "--model.path", "model"]

    def run_nodes(self, *both, first=(), second=(), preload=None):
        """Exit code and output of a rank on each node."""
        parts = []
        for node, own in zip(self.nodes, (first, second)):
            extra = ["-x", f"LD_PRELOAD={preload}"] if preload and node == self.nodes[1] else []
            parts.append(["-np", "1", *extra, "-wdir", str(node), str(BIN / "fpdist_train"), "run.yaml", *map(str, [*both, *own])])
        return run([MPIRUN, *parts[0], ":", *parts[1]])

    def refusal(self, code, words, *both, **different):
        got, output = self.run_nodes(*both, **different)
        self.assertEqual(got, code, output)
        for word in words:
            self.assertRegex(output, word)
        self.assertEqual(output.count("error: "), 1, output)
        for node in self.nodes:
            self.assertFalse((node / "out").exists(), "something was written")

    def test_other_options_are_2(self):
        for key, other, value in (("optim.learning_rate", "0.1", "1e-06"), ("train.seed", "7", "0"), ("pack.share_prefix", "false", "true"),
                                  ("parallel.tp", "2", "1"), ("train.comm_timeout_seconds", "9", "600")):
            self.refusal(2, [rf"{key}: {value} on rank 0, {other} on rank 1"], second=[f"--{key}", other])

    def test_other_data_are_3(self):
        rows = (self.nodes[1] / "rows.jsonl").read_text().splitlines()
        rows[2] = rows[2].replace("[30, 33]", "[30, 99]")
        (self.nodes[1] / "rows.jsonl").write_text("\n".join(rows) + "\n")
        for degrees in (dict(dp=2), dict(tp=2)):
            self.refusal(3, [r"first that differs is rows\.jsonl:3", "token of sample 0: ", "target of sample 0: "], *mesh(**degrees))
        (self.nodes[1] / "rows.jsonl").write_text("\n".join(rows[:3]) + "\n")
        self.refusal(3, [r"groups: 4 on rank 0, 3 on rank 1"])

    def test_other_data_to_evaluate_on_are_3(self):
        for node, last in zip(self.nodes, (61, 62)):
            row = {"prompt_ids": [1, 2, 3], "chosen_ids": [30], "rejected_ids": [last]}
            (node / "eval.jsonl").write_text(json.dumps(row) + "\n")
        for degrees in (dict(dp=2), dict(pp=2)):
            self.refusal(3, ["different data to evaluate on", r"first that differs is eval\.jsonl:1", "token of sample 1: ",
                             r"data\.path and data\.eval_path"], "--data.eval_path", "eval.jsonl", *mesh(**degrees))

    def test_other_prompts_are_3(self):
        for node, last in zip(self.nodes, "=?"):
            (node / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"{i}{last if i == 2 else '='}"}) + "\n" for i in range(4)))
            (node / "run.yaml").write_text("method: grpo\nmodel: { preset: tiny }\nrollout: { prompts: [prompts.jsonl] }\n"
                                           "reward: { functions: [format] }\ntrain: { groups_per_step: 2, max_steps: 1, output_dir: out }\n")
        self.refusal(3, [r"the ranks have read different prompts: rollout\.prompts: 4 rows, checksum \w+ on rank 0, 4 rows, checksum \w+ on "
                         r"rank 1; copy the same files to every node"])

    def test_an_older_export_is_4_on_every_axis(self):
        both = self.add_model(seed=3)
        shutil.copytree(self.nodes[1] / "model", self.dir / "older")
        self.add_model(seed=4)
        for degrees in (dict(dp=2), dict(pp=2), dict(cp=2), dict(tp=2)):
            code, output = self.run_nodes(*both, *mesh(**degrees))
            self.assertEqual(code, 0, "copies of one model: " + output)
            for node in self.nodes:
                shutil.rmtree(node / "out", ignore_errors=True)
        shutil.copytree(self.dir / "older", self.nodes[1] / "model", dirs_exist_ok=True)
        for degrees in (dict(dp=2), dict(pp=2), dict(cp=2), dict(tp=2)):
            self.refusal(4, ["model holds different weights", r"weight: values other than rank 0's on rank 1"], *both, *mesh(**degrees))

    def test_another_tokenizer_and_config_json_are_4(self):
        both = self.add_model()
        for node, text in zip(self.nodes, ("{}", "{ }")):
            (node / "model/tokenizer.json").write_text(text)
        self.refusal(4, [r"tokenizer\.json: checksum \w+ on rank 0, checksum \w+ on rank 1"], *both)
        config = json.loads((self.nodes[1] / "model/config.json").read_text())
        (self.nodes[1] / "model/config.json").write_text(json.dumps({**config, "rope_theta": 123.0}))
        self.refusal(4, [r"config\.json: rope_theta: \S+ on rank 0, 123\.0 on rank 1"], *both)

    def test_other_costs_are_2(self):
        for node, per_row in zip(self.nodes, (100, 200)):
            (node / "costs.yaml").write_text(f"layers: 4\nper_row: {per_row}\n")
        self.refusal(2, [r"plan\.costs: per_row: 100 on rank 0, 200 on rank 1"], "--plan.costs", "costs.yaml")

    def test_another_build_is_2(self):
        library = BIN.parent / "lib/libfpdist.so"
        notes = subprocess.run(["readelf", "-n", library], capture_output=True, text=True, check=True).stdout
        mark = bytes.fromhex(re.search(r"Build ID: (\w+)", notes).group(1))
        content = library.read_bytes()
        self.assertEqual(content.count(mark), 1)
        other = self.dir / library.name
        other.write_bytes(content.replace(mark, bytes(20)))
        self.refusal(2, [rf"libfpdist\.so: {mark.hex()} on rank 0, {'0' * 40} on rank 1"], preload=other)


if __name__ == "__main__":
    main()
