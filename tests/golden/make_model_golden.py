"""Golden values for tests/model: one tiny random Hugging Face directory a case, with what Transformers computes from it.

Run with torch 2.11, transformers 5.23 and safetensors: python tests/golden/make_model_golden.py
Writes model_<case>/{config.json, model.safetensors, expected.safetensors} beside this file. expected.safetensors holds
  ids.<s>         [L] int64, two samples that share their first 9 tokens
  logits32.<s>    [L,V] float32;  logits64.<s> [L,V] float64 (RMSNorm and rotary tables patched to float64)
  grad.<name>     float64 gradient of sum over samples s and positions t of (s + 1) / (t + 1) * logp(ids[t] | ids[:t])
  inv_freq        [D/2] float32;  cos32, sin32 [4,D/2] float32 at depths 0, 1, 1000, 4000
"""
import json
import os
import pathlib

import torch
from model_golden_common import patch_float64
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
COMMON = dict(vocab_size=64, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=4096, rms_norm_eps=1e-5, hidden_act="silu",
              bos_token_id=1, eos_token_id=2, initializer_range=0.02, attention_dropout=0.0, use_cache=True)
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
# Old spellings: rope_theta, rope_scaling, torch_dtype. New ones: rope_parameters, dtype. Both are in the wild.
CASES = {
    "llama": dict(model_type="llama", tie_word_embeddings=False, rope_theta=10000.0, rope_scaling=None,
                  torch_dtype="float32", pretraining_tp=1),
    "llama_linear": dict(model_type="llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True, rope_theta=5000.0,
                         rope_scaling=dict(type="linear", factor=2.5), torch_dtype="bfloat16"),
    "llama_llama3": dict(model_type="llama", tie_word_embeddings=False, head_dim=16, rope_parameters=LLAMA3, dtype="float32"),
    "qwen2": dict(model_type="qwen2", tie_word_embeddings=True, rope_theta=1000000.0, torch_dtype="bfloat16",
                  use_sliding_window=False, sliding_window=4096, max_window_layers=2),
    "qwen3": dict(model_type="qwen3", tie_word_embeddings=False, head_dim=16,
                  rope_parameters=dict(rope_type="default", rope_theta=1000000.0), dtype="bfloat16"),
}


def random_weights(model, seed):
    """Large enough that every part of the model shows in the logits; exact in bfloat16, so that files can be small."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            draw = torch.randn(weight.shape, generator=generator)
            draw = 1.0 + 0.2 * draw if "norm" in name else 0.25 * draw
            weight.copy_(draw.to(torch.bfloat16))


def samples(vocab):
    generator = torch.Generator().manual_seed(7)
    shared = torch.randint(0, vocab, (9,), generator=generator)
    return [torch.cat((shared, torch.randint(0, vocab, (n,), generator=generator))) for n in (12, 7)]


def loss_of(model, ids):
    total = 0.0
    for s, tokens in enumerate(ids):
        logp = model(tokens[None]).logits[0].log_softmax(-1)
        for t in range(1, len(tokens)):
            total = total + (s + 1) / (t + 1) * logp[t - 1, tokens[t]]
    return total


def make(case, fields):
    folder = HERE / f"model_{case}"
    folder.mkdir(exist_ok=True)
    config = {"architectures": [{"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[fields["model_type"]] + "ForCausalLM"],
              **COMMON, **fields, "a_field_from_the_future": {"kept": [1, 2.5, None]}}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), attn_implementation="sdpa",
                                             dtype=torch.float32).eval()
    random_weights(model, seed=list(CASES).index(case))
    dtype = getattr(torch, fields.get("torch_dtype") or fields["dtype"])
    weights = {name: weight.detach().to(dtype) for name, weight in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    ids = samples(COMMON["vocab_size"])
    out = {f"ids.{s}": tokens for s, tokens in enumerate(ids)}
    rotary = model.model.rotary_emb
    out["inv_freq"] = rotary.inv_freq.clone()
    cos, sin = rotary(torch.zeros(1), torch.tensor([[0, 1, 1000, 4000]]))
    half = cos.shape[-1] // 2
    out["cos32"], out["sin32"] = cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
    with torch.no_grad():
        out |= {f"logits32.{s}": model(tokens[None]).logits[0].float() for s, tokens in enumerate(ids)}
    patch_float64(model)
    with torch.no_grad():
        out |= {f"logits64.{s}": model(tokens[None]).logits[0] for s, tokens in enumerate(ids)}
    loss_of(model, ids).backward()
    out |= {f"grad.{name}": weight.grad for name, weight in model.named_parameters()}
    save_file(out, folder / "expected.safetensors", metadata={"format": "pt"})
    print(case, "max logit", max(out[f"logits64.{s}"].abs().max().item() for s in (0, 1)),
          "float32 off by", (out["logits32.0"] - out["logits64.0"]).abs().max().item(),
          {f: os.path.getsize(folder / f) for f in ("model.safetensors", "expected.safetensors")})


if __name__ == "__main__":
    torch.manual_seed(0)
    for case, fields in CASES.items():
        make(case, fields)
