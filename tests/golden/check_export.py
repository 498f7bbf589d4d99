"""Loads what model_golden_test exported with Transformers and compares its logits with ours. By hand, not in ctest:

  build/bin/model_golden_test --gtest_filter='ModelExport*' && python tests/golden/check_export.py build/model_export
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
    difference = ((theirs - ours["logits"]).abs().max() / theirs.abs().max()).item()
    print(f"{folder.name:32s} {'score' if score else 'logits'} relative difference {difference:.3g}")
    worst[dtype] = max(worst.get(dtype, 0.0), difference)
print(worst)
assert worst[torch.float64] < 1e-10 and worst[torch.float32] < 1e-5
