"""Golden values for tests/trainer/weights: what Transformers makes of embeddings, heads and names in every combination.

Run with torch 2.11, transformers 5.23 and safetensors: python tests/golden/make_tied_golden.py
Writes tied/{config.json, model.safetensors, expected.safetensors} beside this file. The model is an untied Llama. A case is
TIE.FILE.NAMES: what config.json says of tie_word_embeddings (true, false, absent), which tensors the file holds (both_same,
both_differ, embedding, head: one of the two alone, always with the embedding's values) and how it spells their names
(prefixed, bare: without `model.`, doubled, mixed: bare norms). expected.safetensors holds logits.CASE [4,V] for token ids
1, 2, 3, 4, for every case in which Transformers finds all it needs and seeds nothing.
"""
import itertools
import json
import pathlib
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent / "tied"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SPELLINGS = {"prefixed": lambda name: name, "bare": lambda name: name.removeprefix("model."), "doubled": lambda name: "model." + name,
             "mixed": lambda name: name.removeprefix("model.") if "norm" in name else name}
TIES = {"true": dict(tie_word_embeddings=True), "false": dict(tie_word_embeddings=False), "absent": {}}


def files(weights):
    rest = {name: value for name, value in weights.items() if name not in (EMBEDDING, HEAD)}
    embedding = weights[EMBEDDING]
    return {"both_same": {**rest, EMBEDDING: embedding, HEAD: embedding.clone()}, "both_differ": weights,
            "embedding": {**rest, EMBEDDING: embedding}, "head": {**rest, HEAD: embedding}}


def make_base():
    torch.manual_seed(5)
    config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
                         num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.3)
    model = LlamaForCausalLM(config)
    HERE.mkdir(exist_ok=True)
    model.save_pretrained(HERE)
    (HERE / "generation_config.json").unlink(missing_ok=True)
    fields = json.loads((HERE / "config.json").read_text())
    fields.pop("tie_word_embeddings", None)
    (HERE / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    return fields


def main():
    fields, weights, expected = make_base(), load_file(HERE / "model.safetensors"), {}
    for (tie, flag), (file, tensors), (names, spell) in itertools.product(TIES.items(), files(weights).items(), SPELLINGS.items()):
        with tempfile.TemporaryDirectory() as folder:
            save_file({spell(name): value.clone() for name, value in tensors.items()}, f"{folder}/model.safetensors", metadata={"format": "pt"})
            pathlib.Path(folder, "config.json").write_text(json.dumps({**fields, **flag}))
            model, info = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", output_loading_info=True)
        if info["missing_keys"]:
            continue  # seeded at random
        with torch.no_grad():
            expected[f"logits.{tie}.{file}.{names}"] = model.eval()(torch.tensor([[1, 2, 3, 4]])).logits[0].float().clone()
    save_file(expected, HERE / "expected.safetensors", metadata={"format": "pt"})
    print(len(expected), "cases that load")


if __name__ == "__main__":
    main()
