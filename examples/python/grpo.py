"""TRL's GRPOTrainer: a group's completions share their prompt, which is computed once. The line that is not TRL's is marked."""

import sys

import fpdist
from datasets import Dataset
from transformers import LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer

import tiny

trainer = GRPOTrainer(
    model=tiny.model(LlamaForCausalLM), processing_class=tiny.tokenizer(),
    train_dataset=Dataset.from_list([{"prompt": pair["prompt"]} for pair in tiny.pairs()]),
    reward_funcs=lambda completions, **_: [float(completion.count("yes")) for completion in completions],
    args=GRPOConfig(sys.argv[1], max_steps=4, per_device_train_batch_size=8, num_generations=4, max_completion_length=8,
                    learning_rate=1e-3, logging_steps=1, use_cpu=True, bf16=False, report_to=[], save_strategy="no",
                    gradient_checkpointing=False))

with fpdist.shared_prefix(trainer.model):  # <-
    trainer.train()
for line in trainer.state.log_history[:-1]:
    print("step loss", line["loss"])
