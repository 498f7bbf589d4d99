"""Golden values for tests/model: a process reward model, as transformers' token classification computes it.

Run with torch 2.11, transformers 5.23 and safetensors: python tests/golden/make_prm_golden.py
Takes model_llama with a random head of two classes and writes prm_llama.safetensors beside it:
  score.weight [2,H], score.bias [2]
  ids.<s>, labels.<s>  [L] int64, two samples that share their first tokens; labels 0, 1, or -100 where nothing is judged
  logits.<s>           [L,2] float64
  loss                 of both samples in a batch, float64: transformers' own is the same in float32
  grad.<name>          of some weights
"""
import pathlib

import torch
from model_golden_common import patch_float64
from safetensors.torch import save_file
from transformers import AutoConfig, LlamaForTokenClassification

HERE = pathlib.Path(__file__).parent
GRADIENTS = ("score.weight", "score.bias", "model.norm.weight", "model.layers.0.self_attn.k_proj.weight")


def main():
    folder = HERE / "model_llama"
    config = AutoConfig.from_pretrained(folder)
    config.num_labels, config.classifier_dropout, config.pad_token_id = 2, 0.0, 0
    model = LlamaForTokenClassification.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in model.score.parameters():
            weight.copy_((0.25 * torch.randn(weight.shape, generator=generator)).to(torch.bfloat16))
    out = {name: weight.detach().clone() for name, weight in model.named_parameters() if name.startswith("score.")}
    patch_float64(model)

    shared = torch.randint(3, 64, (9,), generator=generator)
    ids = [torch.cat((shared, torch.randint(3, 64, (n,), generator=generator))) for n in (12, 7)]
    labels = [torch.full_like(tokens, -100) for tokens in ids]
    for places, of_sample in zip(((5, 8, 14, 20), (5, 8, 15)), labels):  # the first two in what both share, one of them alike
        of_sample[list(places)] = torch.randint(0, 2, (len(places),), generator=generator)
    labels[0][5], labels[1][5], labels[0][8], labels[1][8] = 1, 1, 0, 1
    width = max(map(len, ids))
    pad = lambda rows, value: torch.stack([torch.nn.functional.pad(row, (0, width - len(row)), value=value) for row in rows])
    mask = pad([torch.ones_like(tokens) for tokens in ids], 0)
    result = model(input_ids=pad(ids, 0), attention_mask=mask, labels=pad(labels, -100))
    loss = torch.nn.functional.cross_entropy(result.logits.view(-1, 2), pad(labels, -100).view(-1), ignore_index=-100)
    assert abs(loss - result.loss) < 1e-7, "transformers' own is the same in float32"
    loss.backward()
    gradients = dict(model.named_parameters())
    out |= {f"ids.{s}": tokens for s, tokens in enumerate(ids)} | {f"labels.{s}": row for s, row in enumerate(labels)}
    out |= {f"logits.{s}": result.logits[s, :len(tokens)].detach().clone() for s, tokens in enumerate(ids)}
    out |= {f"grad.{name}": gradients[name].grad for name in GRADIENTS} | {"loss": loss.detach()}
    path = HERE / "prm_llama.safetensors"
    save_file(out, path, metadata={"format": "pt"})
    print(path.name, path.stat().st_size, "bytes, loss", loss.item())


if __name__ == "__main__":
    main()
