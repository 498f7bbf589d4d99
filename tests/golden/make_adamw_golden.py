"""Writes adamw.json: five steps of torch.optim.AdamW on a small vector, float64 and float32. Run with torch 2.11."""
import json
import pathlib

import torch

torch.set_num_threads(1)
rows = []
for dtype in (torch.float64, torch.float32):
    for fused in (False, True):
        torch.manual_seed(7)
        value = torch.randn(37, dtype=torch.float64).to(dtype)
        grads = [(torch.randn(37, dtype=torch.float64) * 10.0 ** (step - 2)).to(dtype) for step in range(5)]
        decayed = 21
        matrix, vector = torch.nn.Parameter(value[:decayed].clone()), torch.nn.Parameter(value[decayed:].clone())
        optimizer = torch.optim.AdamW(
            [{"params": [matrix], "weight_decay": 0.1}, {"params": [vector], "weight_decay": 0.0}],
            lr=3e-3, betas=(0.9, 0.95), eps=1e-8, fused=fused)
        for grad in grads:
            matrix.grad, vector.grad = grad[:decayed].clone(), grad[decayed:].clone()
            optimizer.step()
        rows.append({"dtype": str(dtype).split(".")[1], "fused": fused, "decayed": decayed, "learning_rate": 3e-3,
                     "adam_beta1": 0.9, "adam_beta2": 0.95, "adam_epsilon": 1e-8, "weight_decay": 0.1,
                     "value": value.double().tolist(), "grads": [g.double().tolist() for g in grads],
                     "after": torch.cat([matrix, vector]).detach().double().tolist()})
pathlib.Path(__file__).with_name("adamw.json").write_text(json.dumps(rows).replace("}, ", "},\n ") + "\n")
