"""Golden values for trained prefixes: PEFT's files beside the tiny directories of make_model_golden.py, and what it computes.

Run with torch 2.11, transformers 5.23, peft 0.21.2 and safetensors: python tests/golden/make_prefix_golden.py
Writes prefix_<case> (keys and values, prefix tuning), cartridge_<case> (the same with a frozen front) and prompt_<case>
(embeddings, prompt tuning) beside this file, or of the kinds that are named behind it, each with adapter_config.json, adapter_model.safetensors and expected.safetensors, which holds
  ids.<s>, logits64.<s>   as make_model_golden.py has them, of model and adapter in float64, without virtual rows
  grad.prompt_embeddings  float64 gradient of its loss, of the tensor that the file holds; 0 where it is frozen
and projected_<case>/expected.safetensors, of a prefix that an MLP makes (prefix_projection), which PEFT's files do not keep:
  ids.<s>, logits64.<s>, weight.<name>, grad.<name> of the MLP's weights, prompt_embeddings: what a file would hold
"""
import pathlib
import sys

import torch
from make_adapter_golden import load
from make_model_golden import COMMON, loss_of, samples
from model_golden_common import patch_float64
from peft import CartridgeConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
KINDS = {"prefix": PrefixTuningConfig, "cartridge": CartridgeConfig, "prompt": PromptTuningConfig}
FROZEN = 2  # of a cartridge
CASES = [("prefix", "llama", 5), ("prefix", "qwen2", 1), ("prefix", "qwen3", 3), ("cartridge", "qwen3", 5),
         ("prompt", "llama", 4), ("prompt", "qwen3", 1)]


def wrap(kind, case, tokens, dtype):
    extra = {"num_frozen_tokens": FROZEN} if kind == "cartridge" else {}
    return get_peft_model(load(case, dtype), KINDS[kind](task_type="CAUSAL_LM", num_virtual_tokens=tokens, **extra))


class RealRows:
    """Logits without those of virtual rows, which prompt tuning has ahead of them."""

    def __init__(self, model):
        self.model = model

    def __call__(self, ids):
        out = self.model(ids)
        out.logits = out.logits[:, -ids.shape[1]:]
        return out


def make(kind, case, tokens):
    folder = HERE / f"{kind}_{case}"
    torch.manual_seed(31 + tokens)
    saved = wrap(kind, case, tokens, torch.float32)
    saved.peft_config["default"].base_model_name_or_path = f"model_{case}"
    saved.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)

    ids = samples(COMMON["vocab_size"])
    out = {f"ids.{s}": one for s, one in enumerate(ids)}
    # PEFT casts a prefix to the dtype that the model had when it was wrapped.
    read = patch_float64(PeftModel.from_pretrained(load(case, torch.float64), folder).eval())
    with torch.no_grad():
        out |= {f"logits64.{s}": RealRows(read)(one[None]).logits[0] for s, one in enumerate(ids)}
    # It trains none that it has read.
    model = patch_float64(wrap(kind, case, tokens, torch.float64).eval())
    with torch.no_grad():
        encoder, start = model.prompt_encoder.default, saved.prompt_encoder.default.embedding.weight
        encoder.load_prompt_embeddings(start) if kind == "cartridge" else encoder.embedding.weight.copy_(start)
    loss_of(RealRows(model), ids).backward()
    trained = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    (gradient,) = trained.values()
    out["grad.prompt_embeddings"] = torch.cat([gradient.new_zeros(tokens - len(gradient), gradient.shape[1]), gradient])
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "expected.safetensors",
              metadata={"format": "pt"})
    print(kind, case, len(out), "tensors", (folder / "expected.safetensors").stat().st_size, "bytes")


def make_projected(case, tokens, hidden):
    torch.manual_seed(41)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=tokens, prefix_projection=True, encoder_hidden_size=hidden)
    model = patch_float64(get_peft_model(load(case, torch.float64), config).eval())
    ids = samples(COMMON["vocab_size"])
    loss_of(model, ids).backward()
    encoder = model.prompt_encoder.default
    out = {f"ids.{s}": one for s, one in enumerate(ids)}
    out |= {f"weight.{name}": weight.detach() for name, weight in encoder.named_parameters()}
    out |= {f"grad.{name}": weight.grad for name, weight in encoder.named_parameters()}
    with torch.no_grad():
        out |= {f"logits64.{s}": model(one[None]).logits[0] for s, one in enumerate(ids)}
        out["prompt_embeddings"] = model.get_prompt_embedding_to_save("default")
    folder = HERE / f"projected_{case}"
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "expected.safetensors",
              metadata={"format": "pt"})
    print("projected", case, (folder / "expected.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    wanted = sys.argv[1:] or [*KINDS, "projected"]
    if "projected" in wanted:
        make_projected("llama", tokens=3, hidden=7)
    for one in CASES:
        if one[0] in wanted:
            make(*one)
