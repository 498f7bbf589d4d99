"""Loads adapters that a test exported with PEFT and compares its logits with ours. By hand, not in ctest:

  build/release/bin/model_golden_test
  python tests/golden/check_adapter.py build/release/adapter_export

NAME.logits.safetensors beside a folder holds token ids and our float64 logits or scores of adapter and model.
"""
import json
import pathlib
import sys

import torch
from model_golden_common import patch_float64
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

worst, made = 0.0, 0.0
for logits_file in sorted(pathlib.Path(sys.argv[1]).glob("*.logits.safetensors")):
    folder = logits_file.with_name(logits_file.name.removesuffix(".logits.safetensors"))
    config, ours = json.loads((folder / "adapter_config.json").read_text()), load_file(logits_file)
    score = config["task_type"] == "SEQ_CLS"
    loader = AutoModelForSequenceClassification if score else AutoModelForCausalLM
    extra = {"num_labels": 1, "pad_token_id": 63} if score else {}
    base = loader.from_pretrained(config["base_model_name_or_path"], dtype=torch.float64, attn_implementation="sdpa", **extra)
    model = patch_float64(PeftModel.from_pretrained(base, folder).eval())
    with torch.no_grad():
        theirs = model(ours["ids"][None]).logits[0]  # of prompt tuning with virtual rows, as ours
    difference = ((theirs - ours["logits"]).abs().max() / theirs.abs().max()).item()
    print(f"{folder.name:16s} {config['task_type']:10s} relative difference {difference:.3g}")
    if folder.name.startswith("projected"):  # PEFT rounds what an MLP has made to float32
        made = max(made, difference)
    else:
        worst = max(worst, difference)
assert 0 < worst < 1e-10 and made < 1e-6, (worst, made)
