"""Golden values for tests/trainer: five steps of TRL's own DPOTrainer on a PEFT model, in float64.

Run with torch 2.11, transformers 5.23, trl 1.16, peft 0.21.2 and datasets, after make_train_golden.py:
python tests/golden/make_train_lora_golden.py
From train/model and train/dpo.jsonl, in file order, with the settings of train/expected.json: writes
  train/adapter/          an adapter with random A and B, which training begins at and whose copy is the reference
  train/expected_dpo_lora.safetensors  A and B after the five steps, and losses [5] as the trainer logged them
"""
import json
import os
import pathlib
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", WANDB_DISABLED="true")

import torch
from datasets import Dataset
from make_loss_golden import tokenizer
from model_golden_common import patch_float64
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

ROOT = pathlib.Path(__file__).parent / "train"
LORA = dict(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")


def base():
    return AutoModelForCausalLM.from_pretrained(ROOT / "model", dtype=torch.float32, attn_implementation="sdpa")


def make_adapter():
    model = get_peft_model(base(), LoraConfig(**LORA))
    model.peft_config["default"].base_model_name_or_path = "model"
    generator = torch.Generator().manual_seed(17)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(ROOT / "adapter")
    (ROOT / "adapter/README.md").unlink(missing_ok=True)


class InFileOrder(DPOTrainer):
    def _prepare_dataset(self, dataset, *_):
        return dataset  # tokens already

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def use_float64_logprobs(model):
    """TRL's fused head gives log-probs in float32 whatever the model's dtype: made anew by the plain head."""
    plain = model.get_base_model()

    def replace(_, __, given, outputs):
        rows = plain.model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state[:, :-1]
        labels = given["labels"][:, 1:]
        logps = plain.lm_head(rows).log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
        outputs["log_probs"] = logps.masked_fill(labels == -100, 0)
        return outputs

    plain.register_forward_hook(replace, with_kwargs=True)


def main():
    make_adapter()
    settings = json.loads((ROOT / "expected.json").read_text())
    rows = [json.loads(line) for line in (ROOT / "dpo.jsonl").read_text().splitlines()]
    model = patch_float64(PeftModel.from_pretrained(base(), ROOT / "adapter", is_trainable=True))
    optim, train = settings["optim"], settings["train"]
    args = DPOConfig(output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False,
                     max_length=None, per_device_train_batch_size=train["groups_per_step"], max_steps=train["max_steps"],
                     learning_rate=optim["learning_rate"], lr_scheduler_type="linear", warmup_steps=0,
                     weight_decay=optim["weight_decay"], max_grad_norm=optim["max_grad_norm"],
                     adam_beta1=optim["adam_beta1"], adam_beta2=optim["adam_beta2"], adam_epsilon=optim["adam_epsilon"],
                     beta=settings["method"]["dpo"]["loss"]["beta"], logging_steps=1, save_strategy="no")
    trainer = InFileOrder(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer())
    use_float64_logprobs(trainer.model)
    trainer.model.double()  # the reference's copy of the adapter, which PEFT makes in float32
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trainer.train()
    in_file = lambda name: name.replace(".default", "")
    out = {in_file(name): weight.detach().contiguous() for name, weight in model.named_parameters()
           if ".default" in name and weight.requires_grad}
    assert all(weight.dtype == torch.float64 for weight in out.values())
    frozen = [name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])]
    assert len(frozen) == len(out), frozen
    out["losses"] = torch.tensor([line["loss"] for line in trainer.state.log_history if "loss" in line], dtype=torch.float64)
    save_file(out, ROOT / "expected_dpo_lora.safetensors", metadata={"format": "pt"})
    print(len(out), "tensors; losses", out["losses"].tolist())


if __name__ == "__main__":
    main()
