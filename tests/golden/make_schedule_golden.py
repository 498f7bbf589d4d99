"""Writes schedules.json: the factor that transformers' get_scheduler applies, step by step. Run with transformers 5.23."""
import json
import pathlib

import torch
from transformers import get_scheduler

rows = []
for kind in ("linear", "cosine", "constant", "constant_with_warmup"):
    for warmup, total in ((0, 10), (3, 10), (10, 10), (12, 10), (1, 1), (7, 23)):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=total)
        factors = []
        for _ in range(total + 2):
            factors.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        rows.append({"lr_scheduler_type": kind, "warmup_steps": warmup, "max_steps": total, "factors": factors})
pathlib.Path(__file__).with_name("schedules.json").write_text(json.dumps(rows, indent=None).replace("}, ", "},\n ") + "\n")
