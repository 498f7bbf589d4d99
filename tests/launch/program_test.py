#!/usr/bin/env python3
"""The programs as a user meets them: mpirun, files, exit codes. Usage: program_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import ROOT, Folder, command, main, mesh, run, steps, steps_without_times, train

DATA = ROOT.parent / "shared" / "data"


def count_shared(sequences):
    """Tokens that a trie over the sequences holds: an independent count of what must be computed."""
    trie, nodes = {}, 0
    for sequence in sequences:
        node = trie
        for token in sequence:
            if token not in node:
                node[token] = {}
                nodes += 1
            node = node[token]
    return nodes


class Runs(Folder):
    def test_rank_counts_agree_and_the_files_are_there(self):
        data, _ = self.pairs()
        config = self.config(data)
        losses = []
        for ranks in (0, 2, 3):
            out = self.dir / f"out{ranks}"
            code, text = train(ranks, config, "--train.output_dir", out, "--model.dtype", "float64")
            self.assertEqual(code, 0, text)
            losses.append([step["loss"] for step in steps(out)])
            for name in ("config.resolved.yaml", "logs/rank_0.log", "final/config.json", "final/model.safetensors"):
                self.assertTrue((out / name).exists(), name)
        for other in losses[1:]:
            for a, b in zip(losses[0], other):
                self.assertAlmostEqual(a, b, delta=1e-10)

    def test_the_screen_has_every_nth_step_and_the_file_all(self):
        data, _ = self.pairs()
        code, text = train(0, self.config(data, max_steps=5, logging_steps=2, overwrite_output_dir="true"))
        self.assertEqual(code, 0, text)
        self.assertEqual([step["step"] for step in steps(self.dir / "out")], [1, 2, 3, 4, 5])
        self.assertEqual([word in text for word in ("step 1/5", "step 2/5", "step 3/5", "step 4/5", "step 5/5")],
                         [False, True, False, True, True], text)

    def test_the_printed_sharing_ratio_is_an_independent_count(self):
        data, rows = self.pairs(8)
        code, text = train(1, self.config(data), "--train.groups_per_step", 8, "--train.max_steps", 1)
        self.assertEqual(code, 0, text)
        sequences = [row["prompt_ids"] + row[key] for row in rows for key in ("chosen_ids", "rejected_ids")]
        step = steps(self.dir / "out")[0]
        self.assertEqual(step["tokens_logical"], sum(map(len, sequences)))
        self.assertEqual(step["tokens_computed"], count_shared(sequences))
        self.assertIn(f"{step['sharing_ratio']:.2f}x", text)

    def test_a_step_that_is_left_out_can_be_planned_again_and_run_alone(self):
        data, _ = self.pairs()
        config = self.config(data, on_nan="skip")
        text = self.train(2, config, "--optim.learning_rate", "1e30", "--parallel.dp", 2)
        self.assertIn("step 2: the loss is nan on rank ", text)
        self.assertIn("the step is left out", text)
        self.assertEqual([step["skipped_steps"] for step in steps(self.dir / "out")], [0, 1, 2])
        plan = self.dir / "out/step-2.plan.json"
        code, text = run(command(0, ["--replay", plan], program="fpdist_plan"))
        self.assertEqual(code, 0, text)
        self.assertIn("step 2 of the run, planned as it was there. step 2: the loss is nan", text)
        self.train(2, self.dir / "out/step-2.yaml")
        self.assertEqual(len(steps(self.dir / "out/step-2")), 1)
        rows = self.dir / "out/step-2.rows.jsonl"
        rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:2]))
        code, text = run(command(0, ["--replay", plan], program="fpdist_plan"))
        self.assertEqual(code, 2, text)
        self.assertIn("step 2 is planned otherwise here", text)
        for wrong, words in ((self.write("no.json", "{}"), "is no step-N.plan.json"), (self.dir / "none.json", "none.json")):
            code, text = run(command(0, ["--replay", wrong], program="fpdist_plan"))
            self.assertEqual(code, 2, text)
            self.assertIn(words, text)
        code, text = train(2, config, "--optim.learning_rate", "1e30", "--train.on_nan", "stop",
                           "--train.overwrite_output_dir")
        self.assertEqual(code, 5, text)
        self.assertIn("(train.on_nan is stop)", text)

    def test_plan_and_print_config_train_nothing(self):
        data, _ = self.pairs()
        config = self.config(data)
        code, text = train(0, config, "--plan", "--parallel.dp", 4)
        self.assertEqual(code, 0, text)
        for word in ("dp 4", "sharing ratio", "packs", "memory a rank"):
            self.assertIn(word, text)
        code, text = train(0, config, "--print-config")
        self.assertEqual(code, 0, text)
        self.assertIn("groups_per_step: 4", text)
        code, text = train(0, "--help")
        self.assertEqual(code, 0, text)
        self.assertIn("--optim.learning_rate", text)
        self.assertFalse((self.dir / "out").exists())

    def test_a_plan_needs_no_weights(self):
        data, _ = self.pairs()
        self.train(0, self.config(data))
        model = self.dir / "out/final"
        whole = self.train(0, self.config(data), "--plan", "--model.preset", "", "--model.path", model)
        (model / "model.safetensors").unlink()
        alone = self.train(0, self.config(data), "--plan", "--model.preset", "", "--model.path", model)
        self.assertIn(f"warning: {model} has no weights yet", alone)
        self.assertEqual(alone[alone.index("mesh  "):], whole[whole.index("mesh  "):])
        code, text = train(0, self.config(data), "--model.preset", "", "--model.path", model, "--train.output_dir", self.dir / "b")
        self.assertEqual(code, 4, text)

    def test_the_resolved_config_repeats_the_run(self):
        data, _ = self.pairs()
        for ranks, arguments in ((2, ()), (4, ("--parallel.pp", 2, "--model.device", "auto", "--pack.max_tokens", 64))):
            first, again = self.dir / f"first{ranks}", self.dir / f"again{ranks}"
            self.train(ranks, self.config(data), "--train.output_dir", first, *arguments)
            resolved = (first / "config.resolved.yaml").read_text()
            for open_word in ("-1", '""', "auto\n", "[]"):
                self.assertNotIn(open_word, resolved.replace("cp_method: auto", ""))
            self.train(ranks, first / "config.resolved.yaml", "--train.output_dir", again)
            self.assertEqual((again / "config.resolved.yaml").read_text(), resolved.replace(str(first), str(again)))
            self.assertEqual(steps_without_times(first), steps_without_times(again))
            self.assertEqual((first / "final/model.safetensors").read_bytes(), (again / "final/model.safetensors").read_bytes())

    def test_a_printed_config_is_resolved_once_its_mesh_is_given(self):
        data, _ = self.pairs()
        config = self.config(data)
        open_mesh, full = self.train(0, config, "--print-config"), self.train(0, config, "--print-config", *mesh(dp=2, pp=2))
        for words, given in (("dp: -1", "dp: 2"), ("layers: []", "layers: [2, 2]"), ("beta: -1", "beta: 0.1")):
            self.assertIn(words, open_mesh)
            self.assertIn(given, full)
        code, text = train(0, config, "--print-config", *mesh(tp=3))
        self.assertEqual(code, 2, text)
        self.assertIn("parallel.tp: 3 does not fit", text)

    def test_verify_steps_pass(self):
        data, _ = self.pairs()
        code, text = train(2, self.config(data), "--pack.verify_steps", 2)
        self.assertEqual(code, 0, text)
        self.assertEqual(text.count("verified step"), 2, text)


class ExitCodes(Folder):
    def expect(self, code, ranks, words, *arguments):
        got, text = train(ranks, *arguments)
        self.assertEqual(got, code, text)
        for word in words:
            self.assertIn(word, text)
        return text

    def test_config_errors_are_2(self):
        data, _ = self.pairs()
        bad = self.write("bad.yaml", "method: dpo\nmodel: { preset: tiny }\ntrain: { group_per_step: 4 }\n")
        text = self.expect(2, 2, ["bad.yaml:3:", "groups_per_step"], bad)
        self.assertEqual(text.count("error:"), 1, "every rank said the same: " + text)
        self.expect(2, 3, ["parallel"], self.config(data), "--parallel.dp", 2)
        self.expect(2, 0, ["no_such_file.yaml"], "no_such_file.yaml")

    def test_the_last_word_of_a_failed_job_is_the_reason(self):
        data, _ = self.pairs()
        bad = self.write("bad.jsonl", "{}\n")
        # What launch/env.sh sets; what mpirun says of a job that has failed would come behind.
        for code, words, arguments in ((2, "unknown key", ["--train.sed", 1]),
                                       (2, "dp 3 x pp 1", ["--parallel.dp", 3]),
                                       (3, "bad.jsonl:1", ["--data.path", bad]),
                                       (4, "config.json", ["--model.preset", "", "--model.path", self.dir / "none"])):
            got, text = run(command(2, [self.config(data), *arguments]), OMPI_MCA_orte_execute_quiet="1")
            self.assertEqual(got, code, text)
            last = text.rstrip().splitlines()[-1]
            self.assertIn("error: ", text)
            self.assertIn(words, last, text)
            self.assertNotIn("MPI_ABORT", text)
            self.assertEqual(text.count("error: "), 1, text)

    def test_ranks_that_fail_alike_end_by_themselves(self):
        bad = self.write("bad.jsonl", "{}\n")
        code, text = run(command(2, [self.config(bad)]), OMPI_MCA_orte_execute_quiet="0")
        self.assertEqual(code, 3, text)
        self.assertIn("error: ", text)
        for noise in ("MPI_ABORT", "finalize"):
            self.assertNotIn(noise, text)

    def test_every_program_says_what_it_is(self):
        for program in ("fpdist_train", "fpdist_prepare", "fpdist_plan", "fpdist_report", "fpdist_export", "fpdist_bench"):
            code, text = run(command(0, ["--version"], program=program))
            self.assertEqual(code, 0, text)
            self.assertRegex(text, r"^fpdist \d+\.\d+\.\d+, commit \w+")
            self.assertEqual("torch 2." in text and "MPI Open MPI" in text and "CUDA " in text,
                             program not in ("fpdist_plan", "fpdist_report"), text)
            for word in ("-h", "--help"):
                code, text = run(command(0, [word], program=program))
                self.assertEqual(code, 0, text)
                self.assertIn(program, text)
        code, text = run(command(0, []))
        self.assertEqual(code, 2, text)
        self.assertIn("fpdist_train FILE.yaml", text)
        code, text = run(command(0, ["--help", "optim"]))
        self.assertIn("example:  optim: {", text)

    def test_processes_that_do_not_know_each_other_are_2(self):
        data, _ = self.pairs()
        for variables in ({"WORLD_SIZE": "2", "RANK": "0"}, {"SLURM_STEP_NUM_TASKS": "2"}, {"PMI_SIZE": "2", "PMI_RANK": "0"}):
            code, text = run(command(0, [self.config(data)]), **variables)
            self.assertEqual(code, 2, text)
            self.assertIn("mpirun -np 2", text)
            self.assertIn(next(iter(variables)), text)
            self.assertFalse((self.dir / "out").exists(), "something was written")
        code, text = run(command(2, [self.config(data)]), WORLD_SIZE="2", RANK="0")
        self.assertEqual(code, 0, text)

    def test_data_errors_are_3_and_name_the_line(self):
        data, _ = self.pairs(2)
        with open(data, "a") as out:
            out.write('{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": "x"}\n')
        self.expect(3, 2, ["pairs.jsonl:3:", "rejected_ids"], self.config(data))
        self.expect(3, 0, ["missing.jsonl"], self.config(self.dir / "missing.jsonl"))

    def test_text_for_a_model_without_a_tokenizer_is_3(self):
        data, _ = self.pairs()
        self.train(0, self.config(data, max_steps=1))
        text = self.write("text.jsonl", '{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
        model = ["--model.preset", "", "--model.path", self.dir / "out/final", "--train.output_dir", self.dir / "out2"]
        self.expect(0, 0, [], self.config(text), *model, "--train.max_steps", 1, "--data.tokenizer", "bytes")
        for more in ([], ["--plan"]):
            self.expect(3, 0, ["text.jsonl:1:", "has no tokenizer", "token ids"], self.config(text), *model, *more,
                        "--train.overwrite_output_dir")
        self.write("out/final/tokenizer.json", "{}")
        self.expect(3, 0, ["text.jsonl:1:1: no tokenizer from ", "out/final"], self.config(text), *model, "--train.overwrite_output_dir")
        self.assertTrue((self.dir / "out2/final/model.safetensors").exists(), "the refused run removed an older one")

    def test_model_errors_are_4(self):
        data, _ = self.pairs()
        config = self.config(data)
        (self.dir / "model").mkdir()
        self.write("model/config.json", "{}")
        config.write_text(config.read_text().replace("preset: tiny", f"path: {self.dir / 'model'}"))
        self.expect(4, 2, ["model"], config)

    def test_numbers_that_are_not_finite_are_5(self):
        data, _ = self.pairs()
        self.expect(5, 2, ["step 2"], self.config(data), "--optim.learning_rate", "1e38", "--optim.lr_scheduler_type", "constant")

    def test_what_a_run_reads_is_not_written_over(self):
        """The model that is trained on lies where the run would write it, its config too: nothing is touched."""
        data, _ = self.pairs()
        config = self.config(data, max_steps=1)
        self.train(0, config)
        before = {file: file.read_bytes() for file in (self.dir / "out").rglob("*") if file.is_file()}
        link = self.dir / "link"
        link.symlink_to("out")
        for out in (self.dir / "out", link, f"{self.dir}/./out/", f"{self.dir}/out/logs/.."):
            more = ["--train.output_dir", out, "--train.overwrite_output_dir"]
            self.expect(2, 2, ["would write over", "final/", "model.path"], config, "--model.preset", "", "--model.path", link / "final", *more)
            self.expect(2, 0, ["config.resolved.yaml", "the caller's"], link / "config.resolved.yaml", *more)
        self.assertEqual(before, {file: file.read_bytes() for file in (self.dir / "out").rglob("*") if file.is_file()})
        self.expect(0, 0, [], config, "--train.overwrite_output_dir")

    def test_what_cannot_run_is_said_before_the_first_step(self):
        """The row that does not fit is of the fourth step; a run, --plan and fpdist_plan say so at once."""
        rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 3 + [{"prompt": "x" * 700, "chosen": "b" * 300, "rejected": "c" * 300}]
        data = self.write("p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        config = self.config(data, groups_per_step=1, max_steps=4)
        short = ["--no-data.shuffle", "--pack.max_tokens", 1024]
        needed = 700 + 2 * 301  # an end of sequence behind each answer
        words = ["p.jsonl:4: ", f"needs {needed} rows", f"pack.max_tokens: {needed} holds all"]
        self.expect(2, 2, words, config, *short)
        self.expect(2, 0, words, config, *short, "--plan")
        code, text = run(command(0, ["--config", config, *short], program="fpdist_plan"))
        self.assertEqual(code, 2, text)
        self.assertIn(words[2], text)
        self.assertFalse((self.dir / "out").exists(), "something was written")
        self.expect(0, 2, [], config, *short, "--pack.max_tokens", needed)
        self.expect(2, 2, ["no packs of step 4 (", "p.jsonl:4) keep", "pack.max_in_flight: "], config, *mesh(pp=2), "--no-data.shuffle", "--pack.max_in_flight", 1000,
                    "--train.output_dir", self.dir / "out2")

    def test_what_the_model_has_no_place_for_is_3_with_the_row(self):
        data, rows = self.pairs(4)
        rows[2]["chosen_ids"][0] = 320
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for more in ([], ["--plan"]):
            self.expect(3, 0, ["pairs.jsonl:3: ", "token id 320"], self.config(data), *more)
        data, _ = self.pairs(4)
        self.train(0, self.config(data, output_dir=self.dir / "made", max_steps=1))
        file = self.dir / "made/final/config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "max_position_embeddings": 20}))
        for more in ([], ["--plan"]):
            self.expect(3, 0, ["pairs.jsonl:1: a sample of 22 tokens", "positions for 20", "data.max_length: 20"], self.config(data),
                        "--model.preset", "", "--model.path", self.dir / "made/final", *more)
        self.assertFalse((self.dir / "out").exists(), "something was written")

    @unittest.skipIf(os.geteuid() != 0 or not pathlib.Path("/dev/full").exists(), "needs root to mount a full disk")
    def test_a_full_disk_is_7(self):
        data, _ = self.pairs()
        small = self.dir / "small"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("cannot mount a small tmpfs here")
        try:
            for ranks, arguments in ((2, ()), (4, mesh(pp=2, tp=2))):  # on the mesh the other ranks are sending weights
                self.expect(7, ranks, ["No space left", "free space"], self.config(data, overwrite_output_dir="true"),
                            "--train.output_dir", small / "out", *arguments)
        finally:
            subprocess.run(["umount", small], check=True)


@unittest.skipUnless(DATA.exists(), f"SKIPPED: real data is not at {DATA}")
class ShippedConfigs(Folder):
    def test_without_their_data_they_run_on_what_their_first_lines_make(self):
        pairs, groups = self.dir / "runs/pairs.jsonl", self.dir / "runs/groups.jsonl"
        code, text = run(command(0, ["--generate", "arithmetic", "--output", pairs], program="fpdist_prepare"))
        self.assertEqual(code, 0, text)
        rows = map(json.loads, pairs.read_text().splitlines())
        groups.write_text("".join(json.dumps({"prompt": row["prompt"], "completions": [row["chosen"], row["rejected"]],
                                              "rewards": [1, 0]}) + "\n" for row in rows))  # as the line of jq does
        verdicts = self.dir / "runs/verdicts.jsonl"  # as its line of jq does
        rows = list(map(json.loads, pairs.read_text().splitlines()))
        verdicts.write_text("".join(json.dumps({"prompt": row["prompt"], "completion": row[answer], "label": answer == "chosen"}) + "\n"
                                    for row in rows for answer in ("chosen", "rejected")))
        for method in ("sft", "dpo", "grpo", "lora", "qlora", "prefix", "sources", "prompt", "ntk", "mpo", "simpo", "kto"):
            path = ROOT / f"configs/gsm8k_{method}.yaml"
            head = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
            self.assertTrue(head.startswith("Reads ../shared/data/"), head)
            self.assertIn("fpdist_prepare --generate arithmetic --output runs/pairs.jsonl", head)
            arguments = re.search(r"--data.path runs/\S+( --data.columns \S+)?", head).group().split()
            arguments[1] = self.dir / arguments[1]
            count = 1 if method in ("sft", "dpo", "grpo") else 2
            text = self.train(0, path, *arguments, "--train.max_steps", count, "--train.output_dir", self.dir / method)
            self.assertIn("2048 groups" if method == "kto" else "1024 groups", text)
        for adapter in ("lora", "prefix", "sources", "prompt", "ntk"):
            self.assertEqual(sorted(file.name for file in (self.dir / adapter / "final").iterdir()),
                             ["adapter_config.json", "adapter_model.safetensors"])
        steps_of = lambda row, answer: row[answer].split(". ")  # as the lines of jq do
        made = {"prm": [{"prompt": row["prompt"], "completions": steps_of(row, answer), "labels": [answer == "chosen"] * len(steps_of(row, answer))}
                        for row in rows for answer in ("chosen", "rejected")],
                "prefix_rft": [{"prompt_ids": list(row["prompt"].encode()), "completions": [
                    {"ids": list(row["rejected"].encode()), "reward": 0},
                    {"ids": list(row["chosen"].encode()), "reward": 1, "prefix_length": len(row["chosen"]) // 2}]} for row in rows],
                "contexts": [one for row in rows for one in ({**row, "context": [1, 0]}, {
                    "prompt": row["prompt"], "chosen": row["rejected"], "rejected": row["chosen"], "context": [0, 1]})]}
        for name, of in made.items():
            path = self.dir / f"runs/{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in of))
            self.train(0, ROOT / f"configs/{name}.yaml", "--data.path", path, "--train.max_steps", 2, "--train.output_dir", self.dir / name)
        config = json.loads((self.dir / "prm/final/config.json").read_text())
        self.assertEqual((config["architectures"], config["num_labels"]), (["LlamaForTokenClassification"], 2))
        kept = steps(self.dir / "prefix_rft")[0]["prefix/kept"]  # more than was asked for where tokens are copies
        self.assertTrue(0.19 < kept < 0.7, kept)
        self.refused_by_name(verdicts, "dpo", r"missing column 'chosen'.*for method: kto")
        self.refused_by_name(pairs, "kto", r"missing column 'completion'.*for method: dpo")

    def test_online_grpo_learns_from_what_it_makes(self):
        sums, out = self.dir / "runs/sums.jsonl", self.dir / "online"
        code, text = run(command(0, ["--generate", "sums", "--output", sums], program="fpdist_prepare"))
        self.assertEqual(code, 0, text)
        path = ROOT / "configs/grpo_online.yaml"
        self.assertIn("fpdist_prepare --generate sums --output runs/sums.jsonl", path.read_text().splitlines()[0])
        self.train(2, path, "--rollout.prompts", sums, "--data.eval_path", sums, "--train.max_steps", 2, "--train.groups_per_step", 8,
                   "--rollout.log_completions", "--train.output_dir", out)
        rows = steps(out)
        self.assertEqual([row["step"] for row in rows if "reward" in row], [1, 2])
        self.assertEqual([row["eval_pass@1"] for row in rows if "eval_reward" in row], [rows[-1]["eval_accuracy"]])
        made = [json.loads(line) for line in (out / "completions/step-2.jsonl").read_text().splitlines()]
        self.assertEqual(len(made), 8 * 24)
        code, text = train(0, path, "--rollout.prompts", sums, "--data.eval_path", sums, "--plan")
        self.assertEqual(code, 0, text)
        self.assertRegex(text, "data +[0-9]+ prompts, 24 completions of each, .*\\n"
                         "lengths +prompts as they are, every completion of [0-9]+ tokens: at most")
        self.assertRegex(text, "memory a rank .*(\\n  .*)*\\n  keys and values +[0-9.]+ [KMG]iB .*\\n  packed weights")
        self.goes_on_from_demonstrations(sums)

    def goes_on_from_demonstrations(self, sums):
        path, shown, out = ROOT / "configs/prefix_rft_online.yaml", self.dir / "runs/shown.jsonl", self.dir / "prefix_rft_online"
        rows = [json.loads(line) for line in sums.read_text().splitlines()]
        shown.write_text("".join(json.dumps({**row, "demonstration": "is " + row["answer"]}) + "\n" for row in rows))  # as jq does
        given = [path, "--rollout.prompts", shown, "--data.eval_path", sums, "--train.groups_per_step", 8]
        self.train(2, *given, "--train.max_steps", 2, "--rollout.log_completions", "--train.output_dir", out)
        made = [json.loads(line) for line in (out / "completions/step-2.jsonl").read_text().splitlines()]
        lengths = [row.get("prefix_length", 0) for row in made]
        self.assertEqual([length > 0 for length in lengths], ([False] * 5 + [True]) * 8)
        self.assertTrue(all(row["completion"].startswith("is "[:length]) for row, length in zip(made, lengths)), made)
        self.assertTrue(0 < steps(out)[0]["prefix/share"] < 0.5)
        code, text = train(0, *given, "--plan")
        self.assertEqual(code, 0, text)
        self.assertIn("6 completions of each, 1 of them behind the beginning of its demonstration, 8 prompts a round", text)

    def refused_by_name(self, path, method, words):
        code, text = train(0, "--model.preset", "tiny", "--data.path", path, "--method", method, "--train.output_dir", self.dir / "no")
        self.assertEqual(code, 3, text)
        self.assertRegex(text, words)

    def test_recipes_say_what_makes_their_data(self):
        for name in ("quickstart", "long_context_cp8", "prm", "prefix_rft", "prefix_rft_online", "contexts"):
            first = (ROOT / f"configs/{name}.yaml").read_text().splitlines()[0]
            self.assertIn("fpdist_prepare --generate ", first)


class RealData(Folder):
    def check(self, name, metric, better):
        code, text = train(2, ROOT / "configs" / name, "--train.output_dir", self.dir / "out")
        self.assertEqual(code, 0, text)
        history = [step[metric] for step in steps(self.dir / "out")]
        third = max(1, len(history) // 3)
        first, last = sum(history[:third]) / third, sum(history[-third:]) / third
        self.assertTrue(better(first, last), f"{metric} went from {first} to {last}")
        return steps(self.dir / "out")

    def test_online_grpo_on_grade_school_maths(self):
        code, text = train(2, "--method", "grpo", "--model.preset", "tiny", "--rollout.prompts", DATA / "gsm8k_sft.jsonl",
                           "--reward.functions", "gsm8k,format,repetition", "--reward.answer_column", "completion", "--rollout.num_generations", 2,
                           "--rollout.max_completion_length", 8, "--train.groups_per_step", 2, "--train.max_steps", 2, "--train.output_dir", self.dir / "out")
        self.assertEqual(code, 0, text)
        self.assertEqual([step["rewards/gsm8k/mean"] for step in steps(self.dir / "out")], [0, 0])
        self.assertIn("no completion of this round has ended", text)

    def test_sft(self):
        self.check("gsm8k_sft.yaml", "loss", lambda first, last: last < first)

    def test_dpo_shares_what_a_trie_shares(self):
        history = self.check("gsm8k_dpo.yaml", "loss", lambda first, last: last < first)
        self.assertGreater(sum(step["sharing_ratio"] for step in history) / len(history), 1.2)

    def test_grpo(self):
        history = self.check("gsm8k_grpo.yaml", "loss", lambda first, last: last < first)
        self.assertGreater(sum(step["sharing_ratio"] for step in history) / len(history), 1.2)

    def test_computed_tokens_are_a_tries(self):
        completions = {"sft": lambda row: [row["completion"]], "dpo": lambda row: [row["chosen"], row["rejected"]],
                       "grpo": lambda row: row["completions"]}
        files = {"sft": "gsm8k_sft", "dpo": "gsm8k_pairs", "grpo": "gsm8k_groups"}
        for method, of_row in completions.items():
            with open(DATA / f"{files[method]}.jsonl") as lines:
                rows = [json.loads(next(lines)) for _ in range(8)]
            end_of_sequence, out = [256], self.dir / method
            sequences = [(list(row["prompt"].encode()) + list(text.encode()) + end_of_sequence)[:1024]
                         for row in rows for text in of_row(row)]
            code, text = train(1, ROOT / "configs" / f"gsm8k_{method}.yaml", "--train.output_dir", out, "--train.max_steps", 1,
                               "--data.shuffle", "false", "--pack.max_tokens", 65536)
            self.assertEqual(code, 0, text)
            step = steps(out)[0]
            self.assertEqual(step["tokens_logical"], sum(map(len, sequences)), method)
            self.assertEqual(step["tokens_computed"], count_shared(sequences), method)


if __name__ == "__main__":
    main()
