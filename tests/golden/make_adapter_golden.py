"""Golden values for adapters: PEFT's files beside the tiny directories of make_model_golden.py, and what it computes.

Run with torch 2.11, transformers 5.23, peft 0.21.2 and safetensors: python tests/golden/make_adapter_golden.py
Writes adapter_<case>/{adapter_config.json, adapter_model.safetensors, expected.safetensors} beside this file;
expected.safetensors holds
  ids.<s>, logits64.<s>  as make_model_golden.py has them, of model and adapter in float64
  grad.<name>            float64 gradient of its loss, of every weight of the adapter as the file names it
  merged.<name>          bfloat16 weights of the model, merged by PEFT from a bfloat16 model and float32 adapters
llama_linear is DoRA, beside biases and tied embeddings.
"""
import pathlib

import torch
from make_model_golden import COMMON, loss_of, samples
from model_golden_common import patch_float64
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
CASES = {
    "llama": dict(r=4, lora_alpha=6, target_modules="all-linear", rank_pattern={"down_proj": 2}, alpha_pattern={"k_proj": 3}),
    "qwen2": dict(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"], use_rslora=True),
    "llama_linear": dict(r=2, lora_alpha=3, target_modules=["q_proj", "o_proj", "down_proj"], use_dora=True),
    "qwen3": dict(r=2, lora_alpha=4, target_modules=r".*layers\.1\..*(o|up|gate)_proj"),
}


def load(case, dtype):
    return AutoModelForCausalLM.from_pretrained(HERE / f"model_{case}", dtype=dtype, attn_implementation="sdpa").eval()


def randomize(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            draw = torch.randn(weight.shape, generator=generator) if "lora_" in name else None
            if draw is not None:
                weight.copy_(weight * (1 + 0.1 * draw) if "magnitude" in name else 0.3 * draw)


def make(case, options):
    folder = HERE / f"adapter_{case}"
    model = get_peft_model(load(case, torch.float32), LoraConfig(task_type="CAUSAL_LM", **options))
    model.peft_config["default"].base_model_name_or_path = f"model_{case}"
    randomize(model, seed=11 + list(CASES).index(case))
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)

    ids = samples(COMMON["vocab_size"])
    out = {f"ids.{s}": tokens for s, tokens in enumerate(ids)}
    model = patch_float64(PeftModel.from_pretrained(load(case, torch.float32), folder, is_trainable=True).eval())
    with torch.no_grad():
        out |= {f"logits64.{s}": model(tokens[None]).logits[0] for s, tokens in enumerate(ids)}
    loss_of(model, ids).backward()
    in_file = lambda name: name.replace(".default", "").replace("magnitude_vector.weight", "magnitude_vector")
    out |= {f"grad.{in_file(name)}": weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    merged = PeftModel.from_pretrained(load(case, torch.bfloat16), folder).merge_and_unload()
    plain = dict(load(case, torch.bfloat16).named_parameters())
    out |= {f"merged.{name}": weight.detach() for name, weight in merged.named_parameters()
            if not torch.equal(weight, plain[name])}
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "expected.safetensors",
              metadata={"format": "pt"})
    print(case, len(out), "tensors", (folder / "expected.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    torch.manual_seed(0)
    for case, options in CASES.items():
        make(case, options)
