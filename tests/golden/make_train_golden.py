"""Golden values for tests/trainer: five AdamW steps of a plain PyTorch loop over Transformers' own model.

Run with torch 2.11, transformers 5.23 and safetensors: python tests/golden/make_train_golden.py
Every sample runs alone, without padding; the losses are TRL 1.16's, normalised over the whole step. Writes train/:
  model/                    a random Llama (float32 file, vocabulary 64) for sft, dpo and grpo
  model_reward/             the same body with score.weight instead of lm_head.weight, for reward
  {method}.jsonl            ten pre-tokenised rows: steps of 4, 4 and 2 groups, then the next epoch, in file order
  expected_{method}.safetensors  weights after the five steps, run in float64 (RMSNorm and rotary tables, too)
  expected.json             settings, and by method loss, grad_norm (before clipping) and learning_rate of each step in
                            both dtypes, and how far the float32 loop's weight change is from the float64 one's
The reference of dpo and grpo is the model before the first step.
"""
import copy
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from model_golden_common import patch_float64
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

ROOT = pathlib.Path(__file__).parent / "train"
VOCAB = 64
SHAPE = dict(model_type="llama", vocab_size=VOCAB, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, max_position_embeddings=256, rms_norm_eps=1e-5, hidden_act="silu",
             rope_theta=10000.0, tie_word_embeddings=False, attention_bias=False, mlp_bias=False, bos_token_id=1,
             eos_token_id=2, initializer_range=0.02, torch_dtype="float32")
TRAIN = dict(groups_per_step=4, max_steps=5, shuffle=False)
OPTIM = dict(learning_rate=1e-3, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.01, max_grad_norm=1.0,
             adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-4)
LOSS = {"sft": {}, "dpo": dict(beta=0.1), "reward": dict(center_rewards_coefficient=0.05),
        "grpo": dict(loss_type="dapo", beta=0.04, epsilon=0.2, scale_rewards="group", use_bias_correction_kl=True)}


class Draw:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def below(self, bound):
        return torch.randint(0, bound, (), generator=self.generator).item()

    def tokens(self, length):
        return torch.randint(3, VOCAB, (length,), generator=self.generator).tolist()

    def normal(self, *shape):
        return torch.randn(shape, generator=self.generator)


def make_model(method):
    """Weights large enough that every part of the model has a say."""
    folder = ROOT / ("model_reward" if method == "reward" else "model")
    folder.mkdir(parents=True, exist_ok=True)
    fields = dict(architectures=["LlamaForSequenceClassification"], num_labels=1) if method == "reward" else dict(architectures=["LlamaForCausalLM"])
    (folder / "config.json").write_text(json.dumps(SHAPE | fields, indent=2) + "\n")
    kind = AutoModelForSequenceClassification if method == "reward" else AutoModelForCausalLM
    model = kind.from_config(AutoConfig.from_pretrained(folder), attn_implementation="sdpa", dtype=torch.float32)
    draw = Draw(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(1.0 + 0.2 * draw.normal(*weight.shape) if "norm" in name else 0.2 * draw.normal(*weight.shape))
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return model.eval()


def logps(model, prompt, completion):
    """Log-probs of the completion's tokens; the prompt is never empty here."""
    ids = torch.tensor([prompt + completion])
    return model(input_ids=ids).logits[0, len(prompt) - 1:-1].log_softmax(-1).gather(1, ids[0, len(prompt):, None])[:, 0]


def make_rows(method, model):
    draw = Draw(2)
    system, rows = draw.tokens(6), []
    for row in range(10):
        prompt = system + draw.tokens(1 + draw.below(8))  # a shared system prompt, then the row's own
        if row % 5 == 4:
            prompt = draw.tokens(3)
        trunk = draw.tokens(draw.below(3))  # first tokens that the completions share
        completion = lambda: trunk + draw.tokens(1 + draw.below(9))
        if method == "sft":
            own = completion()
            labels = ([-100] * len(prompt) + own) if row % 4 else prompt + own  # every fourth row learns its prompt, too
            if row == 2:
                labels[-2] = -100
            rows.append(dict(input_ids=prompt + own, labels=labels))
        elif method == "grpo":
            own = []
            for _ in range([4, 3, 1, 5, 2][row % 5]):
                ids = completion()
                with torch.no_grad():
                    old = logps(model, prompt, ids) + 0.2 * draw.normal(len(ids))
                own.append(dict(ids=ids, reward=draw.below(4) / 2, old_logps=[round(value, 6) for value in old.tolist()]))
                own[-1]["mask"] = [0 if row == 6 and len(ids) > 3 and t in (1, 2) else 1 for t in range(len(ids))]
            rows.append(dict(prompt_ids=prompt, completions=own))
        else:
            rows.append(dict(prompt_ids=prompt, chosen_ids=completion(), rejected_ids=completion()))
            if method == "reward":
                rows[-1]["margin"] = draw.below(4) / 4
    (ROOT / f"{method}.jsonl").write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    return rows


def sft_loss(model, reference, rows):
    tokens, total = 0, 0.0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        logp = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        keep = labels != -100
        total = total - logp[keep].gather(1, labels[keep, None]).sum()
        tokens += keep.sum().item()
    return total / tokens


def dpo_loss(model, reference, rows):
    total = 0.0
    for row in rows:
        ratios = []
        for which in ("chosen_ids", "rejected_ids"):
            with torch.no_grad():
                base = logps(reference, row["prompt_ids"], row[which]).sum()
            ratios.append(logps(model, row["prompt_ids"], row[which]).sum() - base)
        total = total - F.logsigmoid(LOSS["dpo"]["beta"] * (ratios[0] - ratios[1]))
    return total / len(rows)


def reward_loss(model, reference, rows):
    total = 0.0
    for row in rows:  # the score of a sample alone is that of its last token
        better, worse = (model.score(model.model(input_ids=torch.tensor([row["prompt_ids"] + row[which]])).last_hidden_state[0, -1])[0]
                         for which in ("chosen_ids", "rejected_ids"))
        total = total - F.logsigmoid(better - worse - row["margin"])
        total = total + LOSS["reward"]["center_rewards_coefficient"] * (better + worse) ** 2
    return total / len(rows)


def grpo_loss(model, reference, rows):
    options, tokens, total = LOSS["grpo"], 0, 0.0
    for row in rows:
        rewards = torch.tensor([one["reward"] for one in row["completions"]], dtype=torch.float64)
        std = rewards.std() if len(rewards) > 1 else 0.0
        for one, advantage in zip(row["completions"], ((rewards - rewards.mean()) / (std + 1e-4)).tolist()):
            own = logps(model, row["prompt_ids"], one["ids"])
            with torch.no_grad():
                base = logps(reference, row["prompt_ids"], one["ids"])
            mask = torch.tensor(one["mask"], dtype=own.dtype)
            ratio = (own - torch.tensor(one["old_logps"], dtype=own.dtype)).exp()
            clipped = ratio.clamp(1 - options["epsilon"], 1 + options["epsilon"])
            kl = ((base - own).exp() - (base - own) - 1) * ratio
            total = total + (mask * (-torch.min(ratio * advantage, clipped * advantage) + options["beta"] * kl)).sum()
            tokens += mask.sum().item()
    return total / tokens


LOSSES = {"sft": sft_loss, "dpo": dpo_loss, "reward": reward_loss, "grpo": grpo_loss}


def train(method, model, rows):
    reference = copy.deepcopy(model)
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]  # norm weights (and biases) do not decay
    adam = torch.optim.AdamW([dict(params=matrices, weight_decay=OPTIM["weight_decay"]), dict(params=vectors, weight_decay=0.0)],
                             lr=OPTIM["learning_rate"], betas=(OPTIM["adam_beta1"], OPTIM["adam_beta2"]), eps=OPTIM["adam_epsilon"])
    size, log = TRAIN["groups_per_step"], dict(loss=[], grad_norm=[], learning_rate=[])
    for step in range(TRAIN["max_steps"]):
        first = step % math.ceil(len(rows) / size) * size
        for group in adam.param_groups:
            group["lr"] = OPTIM["learning_rate"] * (1 - step / TRAIN["max_steps"])
        adam.zero_grad()
        loss = LOSSES[method](model, reference, rows[first:first + size])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIM["max_grad_norm"])
        adam.step()
        for name, value in (("loss", loss.item()), ("grad_norm", norm.item()), ("learning_rate", adam.param_groups[0]["lr"])):
            log[name].append(value)
    return log


def flat(weights):
    return torch.cat([weight.detach().double().reshape(-1) for weight in weights])


def make(method):
    narrow = make_model(method)
    rows = make_rows(method, narrow)
    before = flat(narrow.parameters())
    wide = patch_float64(copy.deepcopy(narrow))
    logs = {"float32": train(method, narrow, rows), "float64": train(method, wide, rows)}
    change = flat(wide.parameters()) - before
    off = ((flat(narrow.parameters()) - before - change).norm() / change.norm()).item()
    path = ROOT / f"expected_{method}.safetensors"
    save_file({name: weight.detach() for name, weight in wide.named_parameters()}, path, metadata={"format": "pt"})
    print(method, "change", change.norm().item(), "float32 off by", off, "norms", logs["float64"]["grad_norm"],
          "losses", logs["float64"]["loss"], path.stat().st_size, "bytes")
    return {"loss": LOSS[method], "model": "model_reward" if method == "reward" else "model", **logs,
            "weight_change_norm": change.norm().item(), "float32_distance": off}


if __name__ == "__main__":
    methods = {method: make(method) for method in LOSSES}
    (ROOT / "expected.json").write_text(json.dumps({"train": TRAIN, "optim": OPTIM, "method": methods}, indent=1) + "\n")
