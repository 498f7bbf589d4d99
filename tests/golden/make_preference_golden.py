"""Golden values for tests/loss: what TRL 1.16's KTO, CPO and ORPO trainers compute from given per-token values.

Run with torch 2.11, transformers 5.23 and trl 1.16: python tests/golden/make_preference_golden.py
A trainer without a model takes its loss of random log-probs in float64, which stand where its model's would.
Writes beside this file loss_{kto,cpo,orpo}.json: samples, cases as make_loss_golden.py has them. In loss_kto.json also
mismatched: [policy, reference] log-probs of each prompt with another's answer; in loss_orpo.json samples that are learned
with their prompt have `prompt` (log-probs of its tokens, in front of the answer's).
"""
import json
import os
import pathlib
from collections import defaultdict
from types import SimpleNamespace

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", WANDB_DISABLED="true", TRL_EXPERIMENTAL_SILENCE="1")

import torch
from trl import KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

HERE = pathlib.Path(__file__).parent
ACCELERATOR = SimpleNamespace(device="cpu", gather_for_metrics=lambda value: value)
NOISE = torch.Generator().manual_seed(5)


def normal(*size, mean=0.0, deviation=1.0):
    return mean + deviation * torch.randn(size, generator=NOISE, dtype=torch.float64)


def logps(*size):
    return -normal(*size).abs() - 0.05


def without_model(kind, **fields):
    trainer = object.__new__(kind)
    trainer.__dict__.update(accelerator=ACCELERATOR, aux_loss_enabled=False, **fields)
    return trainer


def write(name, content):
    path = HERE / name
    path.write_text(json.dumps(content, separators=(",", ":")).replace('"cases":', '\n"cases":').replace('{"options"', '\n{"options"') + "\n")
    print(name, path.stat().st_size, "bytes")


def kto():
    labels, lengths, prompt = [True, False, True, True, False, True], [4, 6, 1, 3, 5, 2], 2
    count, width = len(lengths), prompt + max(lengths)
    mask = torch.zeros(count, width, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, prompt:prompt + length] = 1
    shifted = mask[:, 1:]
    values = {"log_probs": logps(count, width - 1) * shifted, "entropy": normal(count, width - 1).abs(), "mean_logits": normal(count, width - 1)}
    reference = (values["log_probs"] + normal(count, width - 1, deviation=0.4)) * shifted
    mismatched = [logps(count) * 4, None]
    mismatched[1] = mismatched[0] - normal(count, mean=0.2, deviation=0.3)
    cases = []
    for options in ({}, {"beta": 0.5, "desirable_weight": 1.3, "undesirable_weight": 0.7}, {"loss_type": ["apo_zero_unpaired"]},
                    {"beta": 0.3, "sign": -1}):
        sign = options.pop("sign", 1)  # of the estimate of the KL, which is cut at 0
        loss_type = options.get("loss_type", ["kto"])[0]
        trainer = without_model(
            KTOTrainer, model=SimpleNamespace(training=True), _metrics={"train": defaultdict(list)}, _total_train_tokens=0,
            _tp_size=1, loss_type=loss_type, precompute_ref_logps=True, calculate_KL=loss_type == "kto",
            beta=options.get("beta", 0.1), desirable_weight=options.get("desirable_weight", 1.0),
            undesirable_weight=options.get("undesirable_weight", 1.0), _compute_kl_logps=lambda *_: sign * mismatched[0])
        leaf = values["log_probs"].clone().requires_grad_()
        outputs = SimpleNamespace(**values | {"log_probs": leaf})
        batch = {"input_ids": torch.ones_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask,
                 "label": torch.tensor(labels), "ref_logps": reference.sum(1), "ref_KL_logps": sign * mismatched[1]}
        loss = trainer._compute_loss(lambda **_: outputs, batch, False)
        loss.backward()
        pick = lambda table: [row[keep].tolist() for row, keep in zip(table.detach(), shifted.bool())]
        metrics = {name: float(value[-1]) for name, value in sorted(trainer._metrics["train"].items())}
        cases.append({"options": options, "sign": sign, "loss": loss.item(), "metrics": metrics, "grad": pick(leaf.grad)})
    columns = {"logp": values["log_probs"], "entropy": values["entropy"], "mean_logit": values["mean_logits"], "ref_logp": reference}
    samples = [dict(zip(columns, row), wanted=float(label)) for row, label in zip(zip(*map(pick, columns.values())), labels)]
    write("loss_kto.json", {"samples": samples, "mismatched": torch.stack(mismatched, 1).tolist(), "cases": cases})


LENGTHS = [3, 5, 1, 2, 6, 4, 2, 2]  # chosen and rejected alternate


def pairs(kind, options, prompts, is_mean, learns_prompt):
    """Loss and metrics of `kind` on random answers, and the gradient of each token's log-prob."""
    answers = [logps(length) for length in LENGTHS]
    leaves = [torch.cat([prompt, answer]).requires_grad_() for prompt, answer in zip(prompts, answers)]
    whole = [leaf[len(prompt):].sum() / (len(answer) if is_mean else 1) for leaf, prompt, answer in zip(leaves, prompts, answers)]
    chosen = torch.cat([leaf if learns_prompt else leaf[len(prompt):] for leaf, prompt in zip(leaves[::2], prompts[::2])])
    trainer = without_model(kind, **options)
    mean_logits = [normal(length) for length in LENGTHS]
    flat = [torch.cat(mean_logits[side::2]) for side in (0, 1)]
    trainer.concatenated_forward = lambda *_: (torch.stack(whole[::2]), torch.stack(whole[1::2]), *flat, -chosen.mean())
    loss, metrics = trainer.get_batch_loss_metrics(None, {})
    loss.backward()
    samples = [{"logp": leaf.tolist(), "mean_logit": [0.0] * len(prompt) + logit.tolist(), "prompt": len(prompt)}
               for leaf, prompt, logit in zip(leaves, prompts, mean_logits)]
    return samples, {"loss": loss.item(), "metrics": metrics, "grad": [leaf.grad.tolist() for leaf in leaves]}


def cpo():
    cases = []
    for options in ({}, {"beta": 0.5, "label_smoothing": 0.2}, {"loss_type": ["hinge"]}, {"loss_type": ["ipo"], "cpo_alpha": 0.5},
                    {"loss_type": ["simpo"], "beta": 2.0}, {"loss_type": ["simpo"], "simpo_gamma": 1.2, "label_smoothing": 0.1},
                    {"alpha": 0.2}, {"loss_type": ["simpo"], "alpha": -0.3, "beta": 1.5}):
        loss_type = options.get("loss_type", ["sigmoid"])[0]
        fields = {"beta": 0.1, "label_smoothing": 0.0, "cpo_alpha": 1.0, "simpo_gamma": 0.5, "alpha": 0.0} | options
        none = [torch.zeros(0, dtype=torch.float64)] * len(LENGTHS)
        samples, case = pairs(CPOTrainer, fields | {"loss_type": loss_type}, none, loss_type in ("ipo", "simpo"), False)
        cases.append({"options": options, "samples": samples, **case})
    write("loss_cpo.json", {"cases": cases})


def orpo():
    cases = []
    for beta in (0.1, 0.8):
        prompts = [logps(length) if side == 0 else torch.zeros(0, dtype=torch.float64)
                   for length in (3, 0, 5, 2) for side in (0, 1)]
        samples, case = pairs(ORPOTrainer, {"beta": beta}, prompts, True, True)
        cases.append({"options": {"beta": beta}, "samples": samples, "tolerance": 2e-7, **case})  # TRL's odds are float32
    write("loss_orpo.json", {"cases": cases})


if __name__ == "__main__":
    for make in (kto, cpo, orpo):
        make()
