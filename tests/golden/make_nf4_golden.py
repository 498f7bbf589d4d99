"""Golden values for weights of 4 bits: what bitsandbytes makes of matrices, and a directory that transformers saved.

Run with torch 2.11, transformers 5.23, bitsandbytes 0.50 and safetensors: python tests/golden/make_nf4_golden.py
Writes nf4.safetensors beside this file:
  <case>.matrix               in the case's dtype
  <case>.<part>               codes, absmax, nested_absmax, nested_quant_map, quant_state as QuantState packs them
  <case>.dequantized          bitsandbytes' own, in the matrix's dtype
and two directories: model_llama_nf4, which from_pretrained quantized from bfloat16 but for one module and save_pretrained
wrote, and model_llama_nf4_back, the plain model that its weights are when bitsandbytes gives them back.
bitsandbytes 0.50's CPU code restarts blocks at each row where a row is no multiple of 64: no such matrix is here.
"""
import json
import pathlib
import tempfile

import bitsandbytes.functional as F
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent


def matrices():
    generator = torch.Generator().manual_seed(5)
    random = lambda *sizes: torch.randn(*sizes, generator=generator) * torch.rand(sizes[0], 1, generator=generator)
    wide = random(18, 320)
    wide[3, 64:128] = 0  # a block without a scale
    yield "float32", wide, False
    yield "bfloat16", random(40, 192).bfloat16(), False
    yield "float16", random(9, 64).half(), False
    yield "nested", random(120, 192).bfloat16(), True


def parts():
    for name, matrix, nested in matrices():
        codes, state = F.quantize_4bit(matrix, quant_type="nf4", compress_statistics=nested)
        back = F.dequantize_4bit(codes, state)
        assert back.dtype == matrix.dtype
        yield f"{name}.matrix", matrix
        yield f"{name}.weight", codes
        for part, tensor in state.as_dict(packed=True).items():
            yield f"{name}.weight.{part}", tensor
        yield f"{name}.dequantized", back


def config_of():
    return LlamaConfig(vocab_size=32, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=2, rms_norm_eps=1e-5, max_position_embeddings=512, tie_word_embeddings=False)


def save(folder, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})


def make_directories():
    torch.manual_seed(4)
    with tempfile.TemporaryDirectory() as scratch:
        plain = LlamaForCausalLM(config_of()).bfloat16()
        with torch.no_grad():
            for name, weight in plain.named_parameters():
                weight.copy_(1 + 0.2 * torch.randn(weight.shape) if "norm" in name else 0.15 * torch.randn(weight.shape))
        plain.save_pretrained(scratch)
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                    bnb_4bit_compute_dtype=torch.float32,
                                    llm_int8_skip_modules=["model.layers.1.self_attn.o_proj", "lm_head"])
        model = AutoModelForCausalLM.from_pretrained(scratch, dtype=torch.bfloat16, quantization_config=config)
    folder, back = HERE / "model_llama_nf4", HERE / "model_llama_nf4_back"
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    back.mkdir(exist_ok=True)
    fields = json.loads((folder / "config.json").read_text())
    del fields["quantization_config"]
    (back / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    whole = {name: F.dequantize_4bit(weight.data, weight.quant_state) if hasattr(weight, "quant_state") else weight.data
             for name, weight in model.named_parameters()}
    save(back, whole)
    print(sum(hasattr(weight, "quant_state") for _, weight in model.named_parameters()), "of", len(whole), "quantized")


if __name__ == "__main__":
    save_file({name: tensor.contiguous() for name, tensor in parts()}, HERE / "nf4.safetensors", metadata={"format": "pt"})
    make_directories()
