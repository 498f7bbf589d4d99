"""Golden values for tests/loss: what TRL 1.16's own trainers compute from given per-token values.

Run with torch 2.11, transformers 5.23 and trl 1.16: python tests/golden/make_loss_golden.py [dpo grpo ...]
Each trainer runs its own compute_loss on a tiny random model. A hook on the model hands its per-token outputs on as
float64 leaves, so that the files hold (1) what the loss saw, (2) loss and metrics, (3) d loss / d log-prob (or score).
Writes beside this file loss_{sft,dpo,reward,grpo}.json:
  samples: one entry a sample, lists over its supervised tokens (chosen and rejected alternate for pairs)
  cases:   options under our names, TRL's loss, metrics and gradients (in the order of samples)
and trl_advantages.json: rewards by group, TRL's advantages and reward metrics for every scale_rewards.
"""
import json
import os
import pathlib
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", WANDB_DISABLED="true")

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

HERE = pathlib.Path(__file__).parent
SCRATCH = tempfile.mkdtemp()
VOCAB, PAD, EOS = 32, 0, 2
CONFIG = dict(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
              num_key_value_heads=1, initializer_range=0.4, pad_token_id=PAD, bos_token_id=1, eos_token_id=EOS)
COMMON = dict(output_dir=SCRATCH, use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False, max_length=None)


def tokenizer():
    words = {f"w{i}": i for i in range(VOCAB)}
    plain = Tokenizer(models.WordLevel(words, unk_token="w3"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="w0", bos_token="w1", eos_token="w2", unk_token="w3")


def model(kind=LlamaForCausalLM, seed=0, **fields):
    torch.manual_seed(seed)
    return kind(LlamaConfig(**CONFIG, **fields)).float().train()


def draw(length, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, VOCAB, (length,), generator=generator).tolist()


def write_like(policy, prompt, length, seed):
    """Tokens of which about half are what `policy` finds likeliest, so that token accuracies are neither 0 nor 1."""
    ids, random = list(prompt), draw(length, seed)
    for i in range(length):
        with torch.no_grad():
            likeliest = policy(torch.tensor([ids])).logits[0, -1].argmax().item()
        ids.append(likeliest if i % 2 and likeliest != PAD else random[i])
    return ids[len(prompt):]


class Outputs:
    """Hooks a model: keeps its last outputs, hands them on in float64 and as leaves that gradients end at."""

    def __init__(self, hooked, *names, dtype=torch.float64):
        self.names, self.dtype = names, dtype
        hooked.register_forward_hook(self.replace)

    def replace(self, _, __, outputs):
        for name in self.names:
            if getattr(outputs, name, None) is None:  # each trainer asks for what it needs
                continue
            value = outputs[name].detach()
            outputs[name] = value.to(self.dtype).requires_grad_(torch.is_grad_enabled()) if value.is_floating_point() else value
        self.last = outputs
        return outputs


FUSED = ("log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs")


def fresh_metrics(trainer):
    trainer._metrics["train"].clear()
    return lambda: {name: float(value[-1]) for name, value in sorted(trainer._metrics["train"].items())}


def pick(values, mask):
    """Lists over the supervised positions of each row."""
    return [row[keep].tolist() for row, keep in zip(values.detach(), mask.bool())]


def interleave(rows):
    half = len(rows) // 2  # TRL batches all chosen, then all rejected
    return [row for pair in zip(rows[:half], rows[half:]) for row in pair]


def write(name, content):
    path = HERE / name
    path.write_text(json.dumps(content, separators=(",", ":")).replace('"cases":', '\n"cases":').replace('{"options"', '\n{"options"') + "\n")
    print(name, path.stat().st_size, "bytes")


def samples_of(outputs, mask, order=lambda rows: rows, **extra):
    """One dict a sample; `mask` covers the last positions of each row. Columns that TRL did not compute are left out."""
    given = {"logp": outputs.log_probs, "entropy": outputs.entropy, "correct": outputs.is_top1, "mean_logit": outputs.mean_logits}
    columns = {name: pick(value[:, -mask.shape[1]:].double(), mask) for name, value in given.items() if value is not None}
    columns = {name: order(rows) for name, rows in (columns | extra).items()}
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def sft():
    trainer = SFTTrainer(model(), SFTConfig(**COMMON), train_dataset=Dataset.from_dict({"input_ids": [[4, 5]], "labels": [[4, 5]]}),
                         processing_class=tokenizer())
    outputs = Outputs(trainer.model, *FUSED)
    rows, policy = [], model()
    for i, (length, prompt) in enumerate([(9, 3), (6, 0), (12, 5), (4, 3), (7, 2)]):
        ids = draw(1, i) + write_like(policy, draw(1, i), length - 1, i)
        labels = [-100] * prompt + ids[prompt:]
        if i == 2:
            labels[7] = labels[8] = -100  # a hole, as tool output leaves one
        rows.append({"input_ids": ids, "labels": labels})
    batch = trainer.data_collator(rows)
    metrics = fresh_metrics(trainer)
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    mask = batch["labels"][:, 1:] != -100
    out = outputs.last
    write("loss_sft.json", {"samples": samples_of(out, mask), "cases": [
        {"options": {}, "loss": loss.item(), "metrics": metrics(), "grad": pick(out.log_probs.grad, mask)}]})


def one(loss_type, **options):
    return {"loss_type": [loss_type], **options}


DPO_CASES = [
    {"beta": 0.1}, {"beta": 0.7}, one("hinge"), one("ipo"), one("ipo", beta=0.4), one("exo_pair", label_smoothing=0.01),
    one("nca_pair"), one("robust"), one("robust", label_smoothing=0.2), one("bco_pair"), one("sppo_hard", beta=0.5), one("aot"),
    one("aot", label_smoothing=0.1, beta=0.3), one("aot_unpaired"), one("aot_unpaired", label_smoothing=0.1, beta=0.3),
    one("apo_zero"), one("apo_down"), one("discopop"), one("discopop", discopop_tau=0.3), one("sft"), one("sigmoid_norm", beta=2.0),
    {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]}, {"loss_type": ["aot_unpaired", "hinge"]},
    *(one(loss_type, f_divergence_type=f, label_smoothing=smoothing) for loss_type, f, smoothing in (
        ("sigmoid", "forward_kl", 0.0), ("ipo", "forward_kl", 0.0), ("hinge", "js_divergence", 0.0),
        ("robust", "js_divergence", 0.1), ("sigmoid", "alpha_divergence", 0.0))),
    one("sigmoid", f_divergence_type="alpha_divergence", f_alpha_divergence_coef=1.3),
    one("sigmoid", ld_alpha=0.0), one("ipo", ld_alpha=0.5), one("aot", ld_alpha=0.3), one("sigmoid", use_weighting=True),
    one("robust", label_smoothing=0.1, use_weighting=True, ld_alpha=0.5)]


def dpo():
    rows = [{"prompt_ids": draw(p, 10 + i), "chosen_ids": write_like(model(), draw(p, 10 + i), c, 20 + i), "rejected_ids": draw(r, 30 + i)}
            for i, (p, c, r) in enumerate([(5, 4, 7), (3, 1, 2), (6, 8, 3), (1, 5, 5)])]
    text = Dataset.from_dict({"prompt": ["w5"], "chosen": ["w6"], "rejected": ["w7"]})
    cases, samples = [], None
    for options in DPO_CASES:
        # TRL computes this divergence in float32 and below, and exo_pair's constants in float32.
        is_rounded = options.get("f_divergence_type") == "alpha_divergence"
        dtype = torch.float32 if is_rounded else torch.float64
        trainer = DPOTrainer(model(), ref_model=model(seed=1), args=DPOConfig(**COMMON, **options), train_dataset=text,
                             processing_class=tokenizer())
        outputs, reference = (Outputs(which, *FUSED, dtype=dtype) for which in (trainer.model, trainer.ref_model))
        batch = trainer.data_collator(rows)
        mask = batch["completion_mask"][:, 1:]
        metrics = fresh_metrics(trainer)
        loss = trainer._compute_loss(trainer.model, dict(batch), False)
        loss.backward()
        out = outputs.last
        if samples is None:
            samples = samples_of(out, mask, interleave, ref_logp=pick(reference.last.log_probs, mask))
        if out.log_sum_sq_probs is not None:
            for sample, row in zip(samples, interleave(pick(out.log_sum_sq_probs.double(), mask))):
                sample["log_sum_sq"] = row
        cases.append({"options": options, "loss": loss.item(), "metrics": metrics(),
                      "grad": interleave(pick(out.log_probs.grad, mask))})
        if is_rounded or "exo_pair" in options.get("loss_type", []):
            cases[-1]["tolerance"] = 1e-6
    write("loss_dpo.json", {"samples": samples, "cases": cases})


def reward():
    text = Dataset.from_dict({"chosen": ["w6 w5"], "rejected": ["w7 w8"]})
    rows = [{"chosen_ids": draw(c, 40 + i), "rejected_ids": draw(r, 50 + i)} for i, (c, r) in enumerate([(5, 7), (9, 3), (4, 4), (6, 8)])]
    margins = [0.0, 0.5, -0.25, 1.5]
    cases, scores = [], None
    for center in (None, 0.2):
        for margin in (None, margins):
            trainer = RewardTrainer(model(LlamaForSequenceClassification, num_labels=1),
                                    RewardConfig(**COMMON, center_rewards_coefficient=center), train_dataset=text,
                                    processing_class=tokenizer())
            outputs = Outputs(trainer.model, "logits")
            batch = trainer.data_collator([row | ({"margin": m} if margin else {}) for row, m in zip(rows, margins)])
            if margin:
                batch["margin"] = batch["margin"].double()
            inputs = {name: value for name, value in batch.items() if name != "margin"}
            plain_forward = trainer.model.forward
            trainer.model.forward = lambda *args, margin=None, **named: plain_forward(*args, **named)
            metrics = fresh_metrics(trainer)
            loss = trainer.compute_loss(trainer.model, {**inputs, **({"margin": batch["margin"]} if margin else {})})
            loss.backward()
            logits = outputs.last.logits
            scores = interleave(logits.squeeze(-1).tolist())
            options = {"center_rewards_coefficient": center} if center else {}
            cases.append({"options": options, **({"margin": margin} if margin else {}), "loss": loss.item(),
                          "metrics": metrics(), "grad": interleave(logits.grad.squeeze(-1).tolist())})
    write("loss_reward.json", {"scores": scores, "cases": cases})


GROUPS = [[1.0, 0.0, 0.5, 0.25], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 1.0, -1.0]]
LENGTHS = [5, 8, 1, 6, 3, 9, 4, 7, 2, 5, 6, 8]


def grpo_trainer(**fields):
    flat = [reward for group in GROUPS for reward in group]
    return GRPOTrainer(model(), reward_funcs=lambda completions, **_: flat, processing_class=tokenizer(),
                       args=GRPOConfig(**{name: value for name, value in COMMON.items() if name != "max_length"}, num_generations=4,
                                       per_device_train_batch_size=12, max_completion_length=9, **fields),
                       train_dataset=Dataset.from_dict({"prompt": ["w5 w6 w7", "w8", "w9 w10 w11 w12 w13"]}))


def rollouts(trainer):
    """TRL's own scoring of twelve given completions behind three prompts."""
    completions = [draw(length, 60 + i) for i, length in enumerate(LENGTHS)]
    trainer._generate_single_turn = lambda *args, **named: (completions, None)
    prompts = [prompt for prompt in ("w5 w6 w7", "w8", "w9 w10 w11 w12 w13") for _ in range(4)]
    trainer.current_gradient_accumulation_steps = 1
    metrics = fresh_metrics(trainer)
    return trainer._generate_and_score_completions([{"prompt": prompt} for prompt in prompts]), metrics


GRPO_CASES = [
    ("bnpo", {}), ("luspo", {}), ("luspo", {"beta": 0.1}), ("cispo", {"epsilon_high": 1.1}), ("cispo", {"epsilon_high": 1.1, "beta": 0.1}),
    ("sapo", {"sapo_temperature_pos": 1.2}), ("grpo", {"delta": 1.4}), ("dapo", {"delta": 1.5, "beta": 0.1}),
    ("dapo", {"top_entropy_quantile": 0.33}), ("grpo", {"top_entropy_quantile": 0.5, "beta": 0.1}),
    ("dapo", {"entropy_coef": 0.05}), ("grpo", {"entropy_coef": 0.02, "top_entropy_quantile": 0.4}),
    ("grpo", {"off_policy_mask_threshold": 0.1}), ("dapo", {"off_policy_mask_threshold": 0.05, "beta": 0.1})]


def grpo():
    cases, samples, masked = [], None, None
    noise = torch.Generator().manual_seed(3)
    plain = [(loss_type, {}) for loss_type in ("grpo", "dapo", "dr_grpo")]
    for loss_type, more in plain + GRPO_CASES:
        for level in ("token", "sequence"):
            for beta, corrected in ((0.0, True), (0.1, True), (0.1, False))[:1 if more else 3]:
                trainer = grpo_trainer(**{"loss_type": loss_type, "importance_sampling_level": level, "epsilon": 0.2,
                                          "epsilon_high": 0.28, "use_bias_correction_kl": corrected,
                                          **{name: value for name, value in more.items() if name != "beta"}})
                beta = more.get("beta", beta)
                outputs = Outputs(trainer.model, *FUSED)
                inputs, _ = rollouts(trainer)
                trainer.beta = beta  # set late: the reference's log-probs are given here, TRL would run a reference model
                mask = inputs["completion_mask"].clone()
                mask[1, 3:5] = 0  # a tool's output inside a completion
                mask[2] = 0       # a completion without any supervised token
                inputs["tool_mask"] = mask
                inputs["num_items_in_batch"] = mask.sum()
                if samples is None:
                    shape, width = mask.shape, mask.shape[1]
                    ids, alive = (torch.cat([inputs[f"prompt_{kind}"], inputs[f"completion_{kind}"]], 1) for kind in ("ids", "mask"))
                    own = trainer._get_per_token_logps_and_entropies(trainer.model, ids, alive, width)[0].detach()
                    normal = lambda *size: torch.randn(size, generator=noise, dtype=torch.float64)
                    old = own + 0.2 * normal(*shape) + 0.4 * normal(shape[0], 1)  # sequences leave the clip range, too
                    ref = own + 0.5 * normal(*shape)
                inputs |= {"old_per_token_logps": old, "ref_per_token_logps": ref, "advantages": inputs["advantages"].double()}
                metrics = fresh_metrics(trainer)
                loss = trainer._compute_loss(trainer.model, inputs)
                loss.backward()
                out = outputs.last
                width = mask.shape[1]
                if samples is None:
                    samples = samples_of(out, mask, old_logp=pick(old, mask), ref_logp=pick(ref, mask))
                    for sample, advantage in zip(samples, inputs["advantages"].tolist()):
                        sample["advantage"] = advantage
                options = {"loss_type": [loss_type], "importance_sampling_level": level, "beta": beta, "epsilon": 0.2,
                           "epsilon_high": 0.28, "use_bias_correction_kl": corrected, "max_completion_length": 9} | more
                cases.append({"options": options, "loss": loss.item(), "metrics": metrics(),
                              "grad": pick(out.log_probs.grad[:, -width:], mask)})
                if loss_type == "sapo":
                    cases[-1]["tolerance"] = 1e-6  # TRL's temperatures are float32
                if "entropy_coef" in more:
                    cases[-1]["entropy_grad"] = pick(out.entropy.grad[:, -width:], mask)
    write("loss_grpo.json", {"samples": samples, "cases": cases})


def advantages():
    cases = []
    for scale in ("group", "batch", "none"):
        trainer = grpo_trainer(scale_rewards=scale)
        inputs, metrics = rollouts(trainer)
        cases.append({"options": {"scale_rewards": scale}, "advantages": inputs["advantages"].tolist(), "metrics": metrics()})
    write("trl_advantages.json", {"rewards": GROUPS, "lengths": LENGTHS, "cases": cases})


if __name__ == "__main__":
    for make in (sft, dpo, reward, grpo, advantages):
        if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
            make()
