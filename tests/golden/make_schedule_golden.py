"""Writes schedules.json: the factor that transformers' get_scheduler applies, step by step. Run with transformers 5.24.

Short runs with all their digits, where warm-up and end meet in every way; then every type over 1,000 steps, with twelve digits."""
import json
import pathlib

import torch
from transformers import get_scheduler

PEAK = 3e-4
LONG = (("linear", 50, {}), ("constant_with_warmup", 50, {}), ("cosine", 50, {}), ("cosine", 0, {"num_cycles": 1.25}),
        ("cosine_with_restarts", 50, {"num_cycles": 3}), ("cosine_with_min_lr", 50, {"min_lr": 2e-5}),
        ("cosine_with_min_lr", 0, {"min_lr_rate": 0.1, "num_cycles": 0.75}), ("polynomial", 50, {"lr_end": 1e-6, "power": 2.5}),
        ("inverse_sqrt", 50, {}), ("inverse_sqrt", 20, {"timescale": 300}),
        ("warmup_stable_decay", 50, {"num_decay_steps": 300, "min_lr_ratio": 0.1}),
        ("warmup_stable_decay", 80, {"num_decay_steps": 200, "num_stable_steps": 500, "warmup_type": "cosine", "decay_type": "1-sqrt"}),
        ("warmup_stable_decay", 80, {"num_decay_steps": 400, "warmup_type": "1-sqrt", "decay_type": "linear", "min_lr_ratio": 0.05}))


def row(kind, warmup, total, arguments, digits=None):  # digits: after the point; None: all of them
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK if digits else 1.0)
    scheduler = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=total,
                              scheduler_specific_kwargs=arguments)
    factors = []
    for _ in range(total + (0 if digits else 2)):
        factor = scheduler.get_last_lr()[0]
        factors.append(round(factor / PEAK, digits) if digits else factor)
        optimizer.step()
        scheduler.step()
    return {"lr_scheduler_type": kind, "lr_scheduler_kwargs": {name: str(value) for name, value in arguments.items()},
            "warmup_steps": warmup, "max_steps": total, "factors": factors}


rows = [row(kind, warmup, total, {}) for kind in ("linear", "cosine", "constant", "constant_with_warmup")
        for warmup, total in ((0, 10), (3, 10), (10, 10), (12, 10), (1, 1), (7, 23))]
rows += [row(kind, warmup, 1000, arguments, digits=12) for kind, warmup, arguments in LONG]
lines = ",\n ".join(json.dumps(one, separators=(",", ":")) for one in rows)
pathlib.Path(__file__).with_name("schedules.json").write_text(f"[{lines}]\n")
