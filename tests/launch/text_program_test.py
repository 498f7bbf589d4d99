#!/usr/bin/env python3
"""fpdist_train straight from text and conversations, with a model directory that has a tokenizer and a chat template.
Usage: text_program_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import pathlib
import random
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1] / "golden/text")]
import tiny_model
from support import Folder, children_of, command, is_running, main, mesh, run, steps, train, wait_until
from worker_client import WorkerClient

ALONE = {"OMPI_MCA_ess_singleton_isolated": "1"}  # MPI wants no daemon, which it would look for in PATH
COPIED = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def conversation(number):
    rng = random.Random(number)
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    return [{"role": "system", "content": "You add numbers. Answer with the sum alone."},
            {"role": "user", "content": f"What is {a} + {b}?"}], str(a + b), str(a + b + rng.randint(1, 9))


def says(text):
    return [{"role": "assistant", "content": text}]


def rows_of(method, count=12):
    for number in range(count):
        prompt, right, wrong = conversation(number)
        if method == "sft":
            yield {"messages": prompt + says(right)}
        elif method == "grpo":
            yield {"prompt": prompt, "completions": [says(right), says(wrong), says("I do not know")], "rewards": [1, 0, 0]}
        else:
            yield {"prompt": prompt, "chosen": says(right), "rejected": says(wrong)}


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class TextFolder(Folder):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.make(self.dir / "model")

    def text_config(self, method, rows, **data):
        given = "".join(f", {key}: {value}" for key, value in data.items())
        path = self.write(f"{method}.jsonl", jsonl(rows))
        return self.write(f"{method}.yaml", f"method: {method}\nmodel: {{ path: {self.model} }}\n"
                          f"data: {{ path: [{path}]{given} }}\noptim: {{ learning_rate: 1.0e-2 }}\n"
                          f"train: {{ groups_per_step: 4, max_steps: 4, output_dir: {self.dir / method}, comm_timeout_seconds: 60 }}\n")


class Chat(TextFolder):
    def token_count(self, rows):
        """Tokens of a step over all rows, with the worker asked directly."""
        worker = WorkerClient(self.model)
        chats = []
        for row in rows:
            if "messages" in row:
                chats.append(row["messages"])
            elif "completion" in row:
                chats.append(row["prompt"] + row["completion"])
            else:
                chats += [row["prompt"] + answer for answer in row.get("completions") or (row["chosen"], row["rejected"])]
        encoded = worker.encode([json.dumps({"messages": chat}) for chat in chats], kind=1)
        worker.close()
        return sum(len(ids) for ids, _ in encoded)

    def test_conversations_train_on_four_ranks_as_on_one(self):
        for method in ("dpo", "sft", "grpo"):
            with self.subTest(method):
                rows = list(rows_of(method))
                config = self.text_config(method, rows)
                self.train(4, config, *mesh(dp=2, pp=2), "--model.dtype", "float64")
                self.train(0, config, "--model.dtype", "float64", "--train.output_dir", self.dir / "one")
                four, one = steps(self.dir / method), steps(self.dir / "one")
                self.assertEqual(len(four), 4)
                for a, b in zip(four, one):
                    self.assertAlmostEqual(a["loss"], b["loss"], delta=1e-10)
                self.assertEqual(sum(step["tokens_logical"] for step in four[:3]), self.token_count(rows))
                for name in COPIED:
                    self.assertEqual((self.dir / method / "final" / name).read_bytes(), (self.model / name).read_bytes(), name)
                if method == "sft":
                    self.assertLess(four[3]["loss"], four[0]["loss"])
                self.assertGreater(four[0]["sharing_ratio"], 1.2)
                (self.dir / "one").rename(self.dir / f"one_{method}")

    def test_flat_rollouts_are_grouped_by_prompt(self):
        rows = [{"prompt": row["prompt"], "completion": answer, "reward": reward}
                for row in rows_of("grpo") for answer, reward in zip(row["completions"], row["rewards"])]
        random.Random(1).shuffle(rows)
        config = self.text_config("grpo", rows, group_by="prompt")
        text = self.train(2, config)
        self.assertIn("12 groups, 3 steps an epoch", text)
        self.assertEqual(sum(step["tokens_logical"] for step in steps(self.dir / "grpo")[:3]), self.token_count(rows_of("grpo")))

    def test_batching_by_prefix_brings_what_belongs_together_into_a_step(self):
        rows = [{"prompt": row["prompt"], "completion": answer} for row in rows_of("grpo", 24) for answer in row["completions"]]
        random.Random(2).shuffle(rows)
        config = self.text_config("sft", rows, min_shared_tokens=16, max_cluster_share=1.0)
        shared = {}
        for batching in ("shuffle", "prefix"):
            text = self.train(2, config, "--data.batching", batching, "--train.groups_per_step", 6, "--train.max_steps", 6,
                              "--train.output_dir", self.dir / batching)
            self.assertRegex(text, r"a step can share \d+\.\d\dx, \d+\.\d\dx with data.batching: " + ("prefix" if batching == "shuffle" else "shuffle"))
            shared[batching] = [step["sharing_ratio"] for step in steps(self.dir / batching)]
        self.assertGreater(sum(shared["prefix"]) / 6, 1.15 * sum(shared["shuffle"]) / 6)
        config = self.text_config("sft", rows, min_shared_tokens=16, max_cluster_share=1.0, batching="prefix")
        for ranks, degrees in ((4, mesh(dp=2, tp=2)), (0, mesh())):
            self.train(ranks, config, *degrees, "--train.output_dir", self.dir / f"prefix{ranks}", "--model.dtype", "float64")
        for a, b in zip(steps(self.dir / "prefix4"), steps(self.dir / "prefix0")):
            self.assertAlmostEqual(a["loss"], b["loss"], delta=1e-10)

    def test_text_is_encoded_once_for_all_ranks_and_runs(self):
        config = self.text_config("sft", rows_of("sft"))
        self.train(3, config, "--train.max_steps", 2)
        kept = sorted(path.suffix for path in (self.dir / "sft.tokens").iterdir())
        self.assertEqual(kept, [".lock", ".tokens"])
        again = ["--train.output_dir", self.dir / "again", "--data.cache_dir", self.dir / "sft.tokens", "--train.max_steps", 2]
        code, text = run(command(0, [config, *again]), PATH="/nonexistent", **ALONE)  # no Python, no worker
        self.assertEqual(code, 0, text)
        self.assertEqual([step["num_tokens"] for step in steps(self.dir / "again")], [step["num_tokens"] for step in steps(self.dir / "sft")])
        code, text = run(command(0, [config, *again, "--train.overwrite_output_dir", "--data.cache_dir", "none"]), PATH="/nonexistent", **ALONE)
        self.assertEqual((code, "python3 cannot be started" in text), (3, True), text)
        damaged = next((self.dir / "sft.tokens").glob("*.tokens"))
        damaged.write_bytes(damaged.read_bytes()[:-3])
        code, text = train(2, config, *again, "--train.overwrite_output_dir")
        self.assertEqual((code, f"{damaged}: is cut short: remove the file" in text), (3, True), text)

    def test_rows_that_cannot_be_read_are_left_out_and_listed(self):
        rows = [*rows_of("sft"), {"messages": [{"role": "user"}, {"role": "asistant", "content": "a"}]}, {"messages": []}]
        config = self.text_config("sft", rows, on_error="skip")
        text = self.train(2, config, "--train.max_steps", 1)
        self.assertIn("left out 2 rows that cannot be read", text)
        listed = (self.dir / "sft/logs/skipped_rows.txt").read_text().splitlines()
        self.assertEqual([line.split(": ", 1)[1][:20] for line in listed], ["role 'asistant' is u", "the conversation is "])
        code, text = train(0, config, "--data.max_skipped", 1, "--train.overwrite_output_dir")
        self.assertEqual((code, "data.max_skipped 1" in text), (3, True), text)

    def test_the_plan_reads_text_too(self):
        config = self.text_config("dpo", rows_of("dpo"))
        text = self.train(0, config, "--plan", *mesh())
        self.assertIn("12 groups, 3 steps an epoch", text)

    def test_another_tokenizer_can_be_named(self):
        config = self.text_config("sft", [{"text": "abc"}, {"text": "defg"}])
        self.train(0, config, "--data.tokenizer", "bytes", "--train.max_steps", 1)
        self.assertEqual(steps(self.dir / "sft")[0]["tokens_logical"], 9)
        self.train(0, config, "--data.tokenizer", tiny_model.TOKENIZERS / "llama3", "--train.max_steps", 1, "--train.output_dir", self.dir / "other")


class FirstMistakes(TextFolder):
    """What a new user does first. One line each, with what to do."""

    def expect(self, line, method, rows, *arguments, ranks=2):
        code, text = train(ranks, self.text_config(method, rows), *arguments)
        self.assertEqual(code, 3, text)
        self.assertIn("error: " + line, text)
        self.assertEqual(text.count("error:"), 1, text)

    def test_text_rows_and_no_tokenizer(self):
        self.model = tiny_model.make(self.dir / "bare", tokenizer="")
        self.expect(f"{self.dir}/sft.jsonl:1:10: the row is text, and the model directory {self.model} has no tokenizer (tokenizer.json or "
                    "tokenizer.model): copy the tokenizer's files there, name their directory in data.tokenizer, or give token ids",
                    "sft", [{"text": "a"}])

    def test_chat_rows_and_no_template(self):
        self.model = tiny_model.make(self.dir / "bare", tokenizer="spm_bpe")
        self.expect(f"{self.dir}/sft.jsonl:1:14: the tokenizer has no chat template: put a chat_template.jinja beside it, or give text rows",
                    "sft", rows_of("sft"))

    def test_a_wrong_column(self):
        self.expect(f"{self.dir}/dpo.jsonl:1:1: missing column 'rejected': a dpo row has prompt_ids + chosen_ids + rejected_ids (token ids) or "
                    "chosen + rejected (text); this one has prompt, chosen, reject", "dpo", [{"prompt": "a", "chosen": "b", "reject": "c"}])

    def test_the_tokenizer_of_another_model(self):
        self.model = tiny_model.make(self.dir / "smaller", vocab=600)
        self.expect(f"{self.dir}/sft.jsonl:1:1: the tokenizer of {self.model} has 643 tokens, the model's vocabulary 600: it is another model's",
                    "sft", [{"text": "a"}])

    def test_two_kinds_of_rows_in_one_row(self):
        self.expect(f"{self.dir}/sft.jsonl:1:27: 'messages' and 'text' are of different kinds of rows: keep the columns of one kind",
                    "sft", [{"text": "a", "messages": says("b")}])

    def test_two_kinds_of_rows_in_one_file(self):
        self.expect(f"{self.dir}/sft.jsonl:2:1: this row has text, the file's rows before it have prompt + completion: give each kind of row a "
                    "file of its own", "sft", [{"prompt": "a", "completion": "b"}, {"text": "a"}])

    def test_no_worker_outlives_an_error(self):
        code, text = train(2, self.text_config("sft", [*rows_of("sft"), {"messages": 7}]))
        self.assertEqual(code, 3, text)
        orphans = lambda: [pid for pid in children_of(1, "python3") if is_running(pid) and str(self.dir) in  # noqa: E731
                           pathlib.Path(f"/proc/{pid}/cmdline").read_text()]
        self.assertTrue(wait_until(lambda: not orphans(), 10), orphans())


main()
