"""Loads what tests exported with Transformers and compares its logits with ours. By hand, not in ctest:

  for test in model_golden trainer_tied_weights trainer_pad_token; do build/release/bin/${test}_test; done
  python tests/golden/check_export.py build/release/model_export
  build/release/bin/main_export_mesh_test
  python tests/golden/check_export.py build/release/mesh_export

Folders are called NAME-DTYPE[-...]; NAME-DTYPE.logits.safetensors beside one holds token ids and our logits or scores.
Reward models that trained on samples which end in token 1, reward_*, must be scored there, alone and in batches.
"""
import pathlib
import sys

import torch
from model_golden_common import patch_float64
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

worst = {}
for logits_file in sorted(pathlib.Path(sys.argv[1]).glob("*.logits.safetensors")):
    folder = logits_file.with_name(logits_file.name.removesuffix(".logits.safetensors"))
    ours = load_file(logits_file)
    score = "SequenceClassification" in AutoConfig.from_pretrained(folder).architectures[0]
    loader = AutoModelForSequenceClassification if score else AutoModelForCausalLM
    model, info = loader.from_pretrained(folder, dtype="auto", attn_implementation="sdpa", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    dtype = next(model.parameters()).dtype
    assert folder.name.split("-")[1] == str(dtype).removeprefix("torch."), (folder, dtype)
    if dtype == torch.float64:
        patch_float64(model)
    with torch.no_grad():
        theirs = model.eval()(ours["ids"][None]).logits[0]
        scale = theirs.abs().max()
        if score:  # a sum whose terms may cancel
            scale = (model.model(ours["ids"][None]).last_hidden_state[0, -1] * model.score.weight[0]).abs().sum()
    difference = ((theirs - ours["logits"]).abs().max() / scale).item()
    print(f"{folder.name:32s} {'score' if score else 'logits'} relative difference {difference:.3g}")
    worst[dtype] = max(worst.get(dtype, 0.0), difference)
for folder in sorted(pathlib.Path(sys.argv[1]).glob("reward_*")):
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto").eval()
    pad, samples = model.config.pad_token_id, [[5, 6, 7, 1], [5, 6, 7, 7, 1], [1]]
    batch = torch.full((len(samples), max(map(len, samples))), pad)
    for row, ids in enumerate(samples):
        batch[row, :len(ids)] = torch.tensor(ids)
    with torch.no_grad():
        at_last = torch.stack([model.score(model.model(torch.tensor([ids])).last_hidden_state[0, -1])[0] for ids in samples])
        alone = torch.cat([model(torch.tensor([ids])).logits[0] for ids in samples])
        together = model(batch, attention_mask=batch.ne(pad)).logits[:, 0]
    print(f"{folder.name:32s} pad {pad}, scores {at_last.tolist()}")
    assert torch.allclose(alone, at_last, atol=1e-5) and torch.allclose(together, at_last, atol=1e-5)
print(worst)
assert worst and all(worst[dtype] < limit for dtype, limit in ((torch.float64, 1e-10), (torch.float32, 1e-5)) if dtype in worst)
