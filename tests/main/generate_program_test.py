#!/usr/bin/env python3
"""fpdist_generate: greedy completions are those of transformers, rows are such as method grpo reads, and what is wrong is
named. Usage: generate_program_test.py BIN_DIR [unittest arguments]. Without transformers in Python its part is skipped."""
import json
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import unittest

BIN = pathlib.Path(sys.argv.pop(1)).resolve()
try:
    import torch
    import transformers
except ImportError:
    transformers = None


class Generate(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def rows(self, rows, name="prompts.jsonl"):
        (self.dir / name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return name

    def run_program(self, *words, code=0, program="fpdist_generate"):
        done = subprocess.run([BIN / program, *map(str, words)], cwd=self.dir, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100)
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout

    def generate(self, rows, *options, output="out.jsonl", model=("--model.preset", "tiny")):
        self.said = self.run_program(*model, "--prompts", self.rows(rows), "--output", output, *options)
        return [json.loads(line) for line in (self.dir / output).read_text().splitlines()]

    def test_rows_keep_their_columns_and_train_once_they_have_rewards(self):
        prompts = [{"prompt": "Add: 3+4=", "answer": 7}, {"prompt_ids": [65, 66], "source": "made"}, {"prompt": "Add: 3+5=", "answer": 8}]
        rows = self.generate(prompts, "--rollout.num_generations", 4, "--rollout.max_completion_length", 9)
        self.assertEqual([row.get("answer") for row in rows], [7, None, 8])
        self.assertEqual(rows[1]["source"], "made")
        self.assertEqual(rows[0]["prompt_ids"], list(b"Add: 3+4="))
        self.assertIn("prompts: 20 tokens, 12 computed", self.said)
        for row in rows:
            self.assertEqual(len(row["completions"]), 4)
            for one in row["completions"]:
                self.assertEqual(len(one["ids"]), len(one["old_logps"]))
                self.assertEqual(one["finish_reason"], "stop" if one["ids"][-1] == 256 else "length")
                self.assertEqual(one["text"].encode("ascii", "ignore"), bytes(id for id in one["ids"] if id < 128))
                one["reward"] = len(one["ids"]) + one["ids"][0] / 300
        again = self.generate(prompts, "--rollout.num_generations", 4, "--rollout.max_completion_length", 9, output="again.jsonl")
        self.assertEqual([[one["ids"] for one in row["completions"]] for row in again], [[one["ids"] for one in row["completions"]] for row in rows])
        for row in rows:
            for name in ("answer", "source"):
                row.pop(name, None)
        said = self.run_program("--method", "grpo", "--model.preset", "tiny", "--data.path", self.rows(rows, "rollouts.jsonl"),
                                "--train.max_steps", 1, "--train.groups_per_step", 3, "--train.output_dir", "run", "--loss.epsilon", 1e-4, "--loss.epsilon_high", 1e-4, program="fpdist_train")
        self.assertIn("step 1/1", said)
        step = json.loads((self.dir / "run/metrics.jsonl").read_text().splitlines()[0])
        # The model is the one that sampled: its log-probs are those that it returned, and every ratio is 1 to 1e-4.
        self.assertEqual(step["clip_ratio/region_mean"], 0)

    def test_completions_that_are_judged_have_rewards_and_train_as_they_are(self):
        rows = [{"prompt": f"{a}+{b}=", "answer": a + b, "level": 1} for a in range(3) for b in range(3)]
        made = self.generate(rows, "--rollout.num_generations", 4, "--rollout.max_completion_length", 2, "--reward.functions", "regex", "format",
                             "--reward.weights", 1, 0.5, "--reward.pattern", "[ -m]", "--pass_at", 1, 4, "--rollout.seed", 5)
        rewards = [[one["reward"] for one in row["completions"]] for row in made]
        right = [[any(32 <= id <= 109 for id in one["ids"]) for one in row["completions"]] for row in made]
        self.assertEqual(rewards, [[int(is_right) for is_right in row] for row in right])
        share, any_of = sum(map(sum, right)) / 36, sum(map(any, right)) / 9
        errors = [statistics.stdev(values) / 3 for values in ([sum(row) / 4 for row in right], [any(row) for row in right])]
        self.assertIn(f"accuracy {share:.4f} +- {errors[0]:.4f}, pass@1 {share:.4f} +- {errors[0]:.4f}, pass@4 {any_of:.4f} +- {errors[1]:.4f}",
                      self.said)
        said = self.run_program("--method", "grpo", "--model.preset", "tiny", "--data.path", "out.jsonl", "--train.max_steps", 1,
                                "--train.output_dir", "run", program="fpdist_train")
        self.assertIn("step 1/1", said)

    def test_long_prompts_may_see_a_part_of_their_keys_and_it_is_said_what_that_changes(self):
        rng = random.Random(5)
        prompts = [{"prompt_ids": [rng.randrange(256) for _ in range(length)]} for length in (500, 300, 40)]
        words = ["--rollout.num_generations", 1, "--rollout.max_completion_length", 3, "--rollout.temperature", 0, "--flex_prefill.min_tokens", 100,
                 "--flex_prefill.window", 64, "--flex_prefill.block_size", 16, "--flex_prefill.min_budget", 16, "--flex_prefill.max_error", 5]
        part = self.generate(prompts, *words, "--flex_prefill.gamma", 0.5)
        said = re.search(r"flex_prefill: ([\d.]+) % of (\d+) pairs of blocks kept; 1 prompt of 500 tokens with all keys .* s, so .* s, .* s of them to choose keys; "
                         r"\|delta log-prob\| mean ([\d.e+-]+), max ([\d.e+-]+)", self.said)
        self.assertTrue(said, self.said)
        self.assertTrue(5 < float(said[1]) < 95 and 0 < float(said[3]) < float(said[4]), said[0])
        whole = self.generate(prompts, *words, output="whole.jsonl")
        self.assertNotIn("flex_prefill", self.said)
        first = [[row["completions"][0]["old_logps"][0] for row in rows] for rows in (part, whole)]
        self.assertNotAlmostEqual(first[0][0], first[1][0], 5)
        self.assertEqual(first[0][2], first[1][2])  # too short for it
        kept = self.generate(prompts, *words[:6], "--eval.kv_budget", 0.5, "--eval.kv_distance", 1, output="kept.jsonl")
        self.assertIn("eval.kv_budget: layers kept 1680 of 3360 keys, 50.0 %", self.said)
        self.keys_by_profile(prompts, words[:6], kept)
        self.assertEqual(kept[0]["completions"][0]["old_logps"][0], whole[0]["completions"][0]["old_logps"][0])
        self.assertNotEqual(kept[0]["completions"][0]["old_logps"][1], whole[0]["completions"][0]["old_logps"][1])
        self.assertIn("raise flex_prefill.gamma (0.5)", self.run_program(
            "--model.preset", "tiny", "--prompts", "prompts.jsonl", "--output", "x.jsonl", *words[:-1], 1e-9, "--flex_prefill.gamma", 0.5, code=2))

    def keys_by_profile(self, prompts, words, kept):
        """Of one prompt its own shares are the means: what they drop is what was dropped."""
        self.generate(prompts[:1], *words, "--eval.kv_budget", 0.5, "--eval.kv_distance", 1, "--write_kv_profile", "kv.json", output="one.jsonl")
        self.assertIn("means of 1 prompts written to kv.json", self.said)
        profile = json.loads((self.dir / "kv.json").read_text())
        self.assertEqual((profile["budget"], profile["start_size"], profile["prompts"]), (0.5, 1, 1))
        self.assertAlmostEqual(sum(profile["dropped"]) / len(profile["dropped"]), 0.5, 3)
        again = self.generate(prompts, *words, "--eval.kv_distance", 1, "--eval.kv_profile", "kv.json", output="profiled.jsonl")
        (ours,), (theirs,) = again[0]["completions"], kept[0]["completions"]
        self.assertEqual(ours["ids"], theirs["ids"])
        for one, other in zip(ours["old_logps"], theirs["old_logps"], strict=True):
            self.assertAlmostEqual(one, other, 5)  # other prompts' keys lie otherwise
        self.assertRegex(self.said, "layers kept 16[78][0-9] of 3360 keys")
        self.assertEqual(profile["model"], "llama of 4 layers, hidden size 128, 4 heads on 2 of keys")
        other = self.rows([{**profile, "dropped": [0.5]}], "other.json")
        for said, options in (("give --eval.kv_budget below 1", ["--write_kv_profile", "new.json"]),
                              ("kv.json is there already", ["--write_kv_profile", "kv.json", "--eval.kv_budget", 0.4]),
                              ("with shares of 1 layers, and this model is llama of 4", ["--eval.kv_profile", other])):
            self.assertIn(said, self.run_program("--model.preset", "tiny", "--prompts", "prompts.jsonl", "--output", "y.jsonl", *options, code=2))
            self.assertFalse((self.dir / "y.jsonl").exists(), said)
        # A folder that is not there is known ahead of the work.
        self.run_program("--model.preset", "tiny", "--prompts", "prompts.jsonl", "--output", "y.jsonl", "--eval.kv_budget", 0.5,
                         "--write_kv_profile", "none/kv.json", code=7)
        self.assertFalse((self.dir / "y.jsonl").exists())
        # A run's configuration says it as well.
        (self.dir / "run.yaml").write_text("method: grpo\nmodel: {preset: tiny}\nrollout: {prompts: [prompts.jsonl]}\n"
                                           "data: {eval_path: [prompts.jsonl]}\neval: {kv_profile: kv.json, kv_distance: 1}\n")
        by_config = self.generate(prompts, "--config", "run.yaml", *words, output="by_config.jsonl", model=())
        self.assertEqual(by_config, again)

    def test_a_stop_text_stays_and_what_is_judged_ends_ahead_of_it(self):
        rows = [{"prompt": f"{a}=", "answer": a} for a in range(6)]
        made = self.generate(rows, "--rollout.num_generations", 4, "--rollout.max_completion_length", 40, "--rollout.stop", "a", "Z",
                             "--reward.functions", "regex", "--reward.pattern", "[aZ]")
        ended = 0
        for one in (one for row in made for one in row["completions"]):
            stops = [place for place, id in enumerate(one["ids"]) if id in (97, 90)]
            self.assertEqual(stops, [len(one["ids"]) - 1] if one["finish_reason"] == "stop_string" else [])
            self.assertEqual(len(stops), sum(one["text"].count(stop) for stop in "aZ"))
            self.assertEqual(one["reward"], 0)
            ended += len(stops)
        self.assertGreater(ended, 1)

    @unittest.skipIf(transformers is None, "no transformers")
    def test_greedy_is_what_transformers_says(self):
        rng = random.Random(3)
        stops = [2, 7, 11, 19, 23, 31]
        shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 97, "max_position_embeddings": 128,
                 "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": stops, "pad_token_id": 0, "num_attention_heads": 4}
        families = {
            "llama": transformers.LlamaConfig(num_key_value_heads=2, **shape),
            "qwen2": transformers.Qwen2Config(num_key_value_heads=1, tie_word_embeddings=True, **shape),
            "qwen3": transformers.Qwen3Config(num_key_value_heads=4, head_dim=16, **shape),
        }
        preamble = [rng.randrange(3, 97) for _ in range(40)]
        prompts = [preamble[:rng.randrange(1, 41)] + [rng.randrange(3, 97) for _ in range(rng.randrange(0, 9))] for _ in range(24)]
        for family, config in families.items():
            torch.manual_seed(5)
            model = transformers.AutoModelForCausalLM.from_config(config).to(torch.float64)
            model.to(torch.float32).save_pretrained(self.dir / family)
            rows = self.generate([{"prompt_ids": prompt} for prompt in prompts], "--rollout.temperature", 0, "--rollout.num_generations", 1,
                                 "--rollout.max_completion_length", 24, "--rollout.max_num_seqs", 10, output=f"{family}.jsonl",
                                 model=("--model.path", family, "--model.dtype", "float64"))
            stopped = undecided = 0
            for prompt, row in zip(prompts, rows, strict=True):
                with torch.no_grad():
                    whole = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24)[0]
                    logits = model(whole[None]).logits[0, len(prompt) - 1:-1].double()
                theirs = whole[len(prompt):].tolist()
                (ours,) = row["completions"]
                gap = logits.topk(2).values.diff().abs().flatten()  # float32's rounding decides between equals
                same = int((gap < 1e-5).nonzero()[0]) if (gap < 1e-5).any() else len(theirs)
                undecided += same < len(theirs)
                self.assertEqual(ours["ids"][:same], theirs[:same], family)
                if same < len(theirs):
                    continue
                self.assertEqual(ours["ids"], theirs, family)
                self.assertEqual(ours["finish_reason"], "stop" if theirs[-1] in stops else "length")
                stopped += theirs[-1] in stops
                logp = torch.log_softmax(logits, -1).gather(1, whole[len(prompt):, None])[:, 0]
                self.assertLess((torch.tensor(ours["old_logps"]) - logp).abs().max().item(), 5e-5, family)  # their norms and angles are float32
            self.assertLess(undecided, 3, family)
            self.assertTrue(0 < stopped < len(prompts), family)
            print(f"{family}: {len(prompts)} prompts, {stopped} stopped, {undecided} compared up to a tie", flush=True)

    def test_what_is_wrong_is_named(self):
        tiny = ["--model.preset", "tiny", "--output", "out.jsonl"]
        for words, row in (("prompts.jsonl:1: a row has one of prompt_ids and prompt", {"text": "a"}),
                           ("prompts.jsonl:1: the line is no JSON object", "[1]"),
                           ("prompts.jsonl:1: prompt_ids holds 1.5", {"prompt_ids": [1.5]}),
                           ("prompts.jsonl:1: prompt_ids is no list", {"prompt_ids": 4}),
                           ("prompts.jsonl:1: prompt is neither", {"prompt": 4}),
                           ("prompts.jsonl:1: the row has completions already", {"prompt": "a", "completions": []}),
                           ("prompt 1 is empty", {"prompt_ids": []}),
                           ("the file has no rows", "")):
            self.assertIn(words, self.run_program(*tiny, "--prompts", self.rows([row]), code=3))
            self.assertFalse((self.dir / "out.jsonl").exists(), words)
        long = self.rows([*[{"prompt": "a"}] * 200, {"prompt": "a" * 131000}])  # not one wave after the other
        self.assertIn("prompt 201 has 131000 tokens", self.run_program(*tiny, "--prompts", long, "--rollout.max_num_seqs", 1, code=3))
        self.assertFalse((self.dir / "out.jsonl").exists())
        self.assertIn("check --prompts", self.run_program(*tiny, "--prompts", "none.jsonl", code=3))
        good = self.rows([{"prompt": "a"}])
        for words, arguments in (("it is --rollout.num_generations here", ["--n", 3]), ("it is --rollout.max_completion_length here", ["--rollout.max_tokens", 3]),
                                 ("--help lists them all", ["--nonsense", 3]), ("one of --model.path", ["--prompts", good, "--output", "x"]),
                                 ("give --prompts", tiny), ("rollout.top_p is 2", [*tiny, "--prompts", good, "--rollout.top_p", 2]),
                                 ("see fpdist_generate --help", [*tiny, "--rollout.top_k", "many"]),
                                 ("--pass_at has 8, and there are", [*tiny, "--prompts", good, "--rollout.num_generations", 4, "--pass_at", 8]),
                                 ("'nonsense'; built in are", [*tiny[:2], "--prompts", good, "--output", "y.jsonl", "--reward.functions", "nonsense"]),
                                 ("it is --rollout.stop here", ["--stop", "a"]), ("it is --eval.kv_profile here", ["--kv_profile", "a"]), ("rollout.stop has an empty text", [*tiny[:2], "--prompts", good, "--output", "y.jsonl", "--rollout.stop", ""]),
                                 ("it is --reward.functions here", ["--reward_funcs", "exact"]),
                                 ("out.jsonl is there already", [*tiny[:2], "--prompts", good, "--output", self.rows([], "out.jsonl")])):
            self.assertIn(words, self.run_program(*arguments, code=2))
        self.assertIn("--rollout.min_p", self.run_program("--help"))
        self.assertIn("commit", self.run_program("--version"))


if __name__ == "__main__":
    unittest.main()
