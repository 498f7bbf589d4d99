"""TRL's RewardTrainer: chosen and rejected share their prompt, which is computed once. The line that is not TRL's is marked."""

import sys

import fpdist
from datasets import Dataset
from transformers import LlamaForSequenceClassification
from trl import RewardConfig, RewardTrainer

import tiny

trainer = RewardTrainer(
    model=tiny.model(LlamaForSequenceClassification, num_labels=1), processing_class=tiny.tokenizer(),
    train_dataset=Dataset.from_list(tiny.pairs()),
    args=RewardConfig(sys.argv[1], max_steps=4, per_device_train_batch_size=8, learning_rate=1e-3, logging_steps=1,
                      use_cpu=True, bf16=False, report_to=[], save_strategy="no", gradient_checkpointing=False))

with fpdist.shared_prefix(trainer.model):  # <-
    trainer.train()
for line in trainer.state.log_history[:-1]:
    print("step loss", line["loss"])
