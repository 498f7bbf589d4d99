#!/usr/bin/env python3
"""The same ten steps by TRL and by fpdist: losses, gradient norms and the method's values side by side, and the seconds.

  python3 bench/trl_side_by_side.py [--workloads short shared grpo] [--threads 2] [--build build/release] [--json FILE]

Three workloads on one small Llama with a tokenizer of its own, one process each, float32, text rows, the whole data set in
every step (so that the order is of no matter):
  short   DPO, 64 pairs, each behind a short prompt of its own: little to share
  shared  DPO, 32 pairs behind one system prompt of some 300 tokens
  grpo    GRPO, 8 prompts of some 100 tokens, 8 completions each, the same completions for both
TRL reads the rows through DPOTrainer and GRPOTrainer with their defaults, the reference's log-probs made beforehand (its fast
way); GRPOTrainer is handed the completions as a rollout function. Seconds are those of the steps: forward, backward and
update, after one step that warms up. Needs a Python with torch 2.11, transformers 5.23, trl 1.16, datasets and tokenizers.
Ends with 1 when a loss differs by more than 1e-5 or a gradient norm by more than 1e-4 of itself.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

STEPS = 10
RATE = 1e-4
SHAPE = dict(hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
             max_position_embeddings=1024, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)
WORDS = "sum of two three seven and minus times what is the answer to question think step by carry digit so we get".split()


def sentence(draw, words):
    return " ".join(draw.choice(WORDS) if draw.random() < 0.8 else str(draw.randrange(1000)) for _ in range(words))


def make_rows(workload, draw):
    system = sentence(draw, 300)
    if workload == "short":
        return [dict(prompt=f"{sentence(draw, 12)}?", chosen=f" {sentence(draw, 16)}", rejected=f" {sentence(draw, 16)}")
                for _ in range(64)]
    if workload == "shared":
        return [dict(prompt=f"{system} {sentence(draw, 12)}?", chosen=f" {sentence(draw, 16)}", rejected=f" {sentence(draw, 16)}")
                for _ in range(32)]
    return [dict(prompt=f"{sentence(draw, 100)}?", completions=[f" {sentence(draw, 24)}" for _ in range(8)],
                 rewards=[draw.randrange(5) / 4 for _ in range(8)]) for _ in range(8)]


def make_model(folder):
    """A tokenizer of whole words and digits' bytes, and a Llama of its size with random weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=1024, special_tokens=["<|end|>", "<|pad|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([sentence(random.Random(seed), 200) for seed in range(50)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(fast), bos_token_id=None, eos_token_id=fast.eos_token_id,
                                         pad_token_id=fast.pad_token_id, initializer_range=0.05, **SHAPE))
    model.save_pretrained(folder)


def by_fpdist(options, workload, model, folder, rows):
    data, config, out = folder / "rows.jsonl", folder / "run.yaml", folder / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config.write_text(json.dumps({
        "method": "grpo" if workload == "grpo" else "dpo", "model": {"path": str(model), "dtype": "float32"},
        "data": {"path": [str(data)], "max_length": 1024, "shuffle": False},
        "train": {"groups_per_step": len(rows), "max_steps": STEPS, "output_dir": str(out), "report_to": ["jsonl"]},
        "optim": {"learning_rate": RATE, "lr_scheduler_type": "constant", "weight_decay": 0.0, "max_grad_norm": 1.0},
        "loss": {"beta": 0.0 if workload == "grpo" else 0.1}}))  # JSON is YAML
    began = time.perf_counter()
    done = subprocess.run([f"{options.build}/bin/fpdist_train", config, "--quiet"], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": str(options.threads), "GOMP_SPINCOUNT": "1000"})
    if done.returncode:
        sys.exit(f"fpdist_train ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line][:STEPS], [line["seconds"] for line in lines if "loss" in line], time.perf_counter() - began


def by_trl(options, workload, model, folder, rows):
    """In a process of its own: its threads and its memory are nobody else's."""
    (folder / "rows.json").write_text(json.dumps(rows))
    began = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "--trl", workload, str(model), str(folder)], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": str(options.threads), "GOMP_SPINCOUNT": "1000",
                               "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TRL_EXPERIMENTAL_SILENCE": "1"})
    if done.returncode:
        sys.exit(f"TRL ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    result = json.loads((folder / "trl.json").read_text())
    return result["steps"], result["seconds"], time.perf_counter() - began


def run_trl(workload, model, folder):
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    folder = pathlib.Path(folder)
    rows = json.loads((folder / "rows.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(model)
    policy = AutoModelForCausalLM.from_pretrained(model, dtype="float32")
    same = dict(output_dir=str(folder / "trl"), max_steps=STEPS, learning_rate=RATE, lr_scheduler_type="constant", weight_decay=0.0,
                max_grad_norm=1.0, logging_steps=1, save_strategy="no", report_to=[], bf16=False, use_cpu=True, warmup_steps=0,
                gradient_checkpointing=False, disable_tqdm=True)
    seconds, steps = [], []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.began = time.perf_counter()

        def on_step_end(self, *_, **__):
            seconds.append(time.perf_counter() - self.began)

        def on_log(self, args, state, control, logs=None, **__):
            if "loss" in logs:
                steps.append(logs)

    if workload == "grpo":
        from trl import GRPOConfig, GRPOTrainer

        completions = {row["prompt"]: row["completions"] for row in rows}
        reward = {(row["prompt"], text): value for row in rows for text, value in zip(row["completions"], row["rewards"])}
        encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]

        def rollout(prompts, _):
            """The stored completions, each prompt's in turn, ended as fpdist ends them."""
            seen, ids = {}, []
            for prompt in prompts:
                which = seen[prompt] = seen.get(prompt, -1) + 1
                ids.append(encode(completions[prompt][which]) + [tokenizer.eos_token_id])
            return dict(prompt_ids=[encode(prompt) for prompt in prompts], completion_ids=ids,
                        logprobs=[[0.0] * len(one) for one in ids])

        def stored_reward(prompts, completions, **_):
            return [reward[prompt, text] for prompt, text in zip(prompts, completions)]

        trainer = GRPOTrainer(policy, [stored_reward], processing_class=tokenizer, rollout_func=rollout, callbacks=[Clock()],
                              train_dataset=datasets.Dataset.from_list([dict(prompt=row["prompt"]) for row in rows]),
                              args=GRPOConfig(per_device_train_batch_size=64, num_generations=8, beta=0.0,
                                              max_completion_length=256, **same))
    else:
        from trl import DPOConfig, DPOTrainer

        trainer = DPOTrainer(policy, processing_class=tokenizer, train_dataset=datasets.Dataset.from_list(rows), callbacks=[Clock()],
                             args=DPOConfig(per_device_train_batch_size=len(rows), beta=0.1, max_length=1024,
                                            precompute_ref_log_probs=True, **same))
    trainer.train()
    (folder / "trl.json").write_text(json.dumps(dict(steps=steps, seconds=seconds)))


def show(workload, ours, theirs):
    """Prints the two beside each other and returns whether they are the same training."""
    shown = ["loss", "grad_norm"] + (["reward", "entropy"] if workload == "grpo" else ["rewards/margins", "rewards/accuracies"])
    print("step  " + "  ".join(f"{name + ' TRL':>24}  {'fpdist':>12}" for name in shown))
    same = True
    for step, (our, their) in enumerate(zip(ours, theirs), 1):
        print(f"{step:4}  " + "  ".join(f"{their.get(name, float('nan')):24.7f}  {our.get(name, float('nan')):12.7f}" for name in shown))
        same &= abs(our["loss"] - their["loss"]) <= 1e-5
        same &= abs(our["grad_norm"] - their["grad_norm"]) <= 1e-4 * max(1.0, their["grad_norm"])
    return same and len(ours) == len(theirs) == STEPS


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "--trl":
        return run_trl(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=["short", "shared", "grpo"], choices=["short", "shared", "grpo"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--json")
    options = parser.parse_args()
    results, all_same = [], True
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "model"
        make_model(model)
        for workload in options.workloads:
            own = pathlib.Path(folder) / workload
            own.mkdir()
            rows = make_rows(workload, random.Random(1))
            theirs, their_seconds, their_wall = by_trl(options, workload, model, own, rows)
            ours, our_seconds, our_wall = by_fpdist(options, workload, model, own, rows)
            print(f"\n{workload}: {ours[0]['tokens_logical']} tokens a step, {ours[0]['tokens_computed']} computed")
            all_same &= show(workload, ours, theirs)
            steps = [sum(seconds[1:]) for seconds in (their_seconds, our_seconds)]
            print(f"seconds of steps 2 to {STEPS}: TRL {steps[0]:.2f}, fpdist {steps[1]:.2f}, {steps[0] / steps[1]:.1f} times as fast; "
                  f"whole programs {their_wall:.1f} and {our_wall:.1f}")
            results.append(dict(workload=workload, trl_seconds=steps[0], fpdist_seconds=steps[1], trl=theirs, fpdist=ours,
                                sharing_ratio=ours[0]["sharing_ratio"], trl_wall=their_wall, fpdist_wall=our_wall))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    if not all_same:
        sys.exit("the two did not train the same")


if __name__ == "__main__":
    main()
