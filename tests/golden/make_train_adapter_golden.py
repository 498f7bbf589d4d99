"""Golden values for tests/trainer: five steps of TRL's own DPOTrainer on a PEFT model, in float64.

Run with torch 2.11, transformers 5.23, trl 1.16, peft 0.21.2 and datasets, after make_train_golden.py:
python tests/golden/make_train_adapter_golden.py
From train/model and train/dpo.jsonl, in file order, with the settings of train/expected.json: writes
  train/adapter/          a LoRA adapter with random A and B, which training begins at and whose copy is the reference
  train/expected_dpo_lora.safetensors  A and B after the five steps, and losses [5] as the trainer logged them
  train/prefix/           a random prefix, which training begins at; the reference is the model without it
  train/expected_dpo_prefix.safetensors  prompt_embeddings after the five steps, and losses [5]
"""
import functools
import json
import os
import pathlib
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", WANDB_DISABLED="true")

import torch
from datasets import Dataset
from make_loss_golden import tokenizer
from model_golden_common import patch_float64
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

ROOT = pathlib.Path(__file__).parent / "train"
LORA = dict(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")


def base():
    return AutoModelForCausalLM.from_pretrained(ROOT / "model", dtype=torch.float32, attn_implementation="sdpa")


def make_start(folder, config, draw):
    """An adapter that training begins at, with what `draw` gives for the name and shape of each of its weights."""
    model = get_peft_model(base(), config)
    model.peft_config["default"].base_model_name_or_path = "model"
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(draw(weight.shape))
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


class InFileOrder(DPOTrainer):
    def _prepare_dataset(self, dataset, *_):
        return dataset  # tokens already

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def use_float64_logprobs(model):
    """TRL's fused head gives log-probs in float32 whatever the model's dtype: made anew by the plain head."""
    plain = model.get_base_model()
    fused = plain.forward

    @functools.wraps(fused)
    def forward(*args, labels=None, **given):  # no hook: PEFT calls it past them where an adapter is off
        outputs = fused(*args, labels=labels, **given)
        prefix = given.get("past_key_values")
        if prefix is not None:
            prefix.crop(-given["input_ids"].shape[1])  # as it was before the forward
        rows = plain.model(input_ids=given["input_ids"], attention_mask=given["attention_mask"], past_key_values=prefix)
        labels = labels[:, 1:]
        logps = plain.lm_head(rows.last_hidden_state[:, :-1]).log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
        outputs["log_probs"] = logps.masked_fill(labels == -100, 0)
        return outputs

    plain.forward = forward


def train(model, start, out, **wrapping):
    """Trains from the weights of `start`, which names and shapes are of, and writes them and the losses as `out`."""
    settings = json.loads((ROOT / "expected.json").read_text())
    rows = [json.loads(line) for line in (ROOT / "dpo.jsonl").read_text().splitlines()]
    optim, train = settings["optim"], settings["train"]
    args = DPOConfig(output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False,
                     max_length=None, per_device_train_batch_size=train["groups_per_step"], max_steps=train["max_steps"],
                     learning_rate=optim["learning_rate"], lr_scheduler_type="linear", warmup_steps=0,
                     weight_decay=optim["weight_decay"], max_grad_norm=optim["max_grad_norm"],
                     adam_beta1=optim["adam_beta1"], adam_beta2=optim["adam_beta2"], adam_epsilon=optim["adam_epsilon"],
                     beta=settings["method"]["dpo"]["loss"]["beta"], logging_steps=1, save_strategy="no")
    trainer = InFileOrder(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer(), **wrapping)
    use_float64_logprobs(trainer.model)
    trainer.model.double()  # what PEFT has made in float32, such as the reference's copy of an adapter
    with torch.no_grad():
        for name, weight in start.items():
            trainer.model.get_parameter(name).copy_(weight)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    after = {name: weight.detach().contiguous() for name, weight in trainer.model.named_parameters() if name in start}
    assert all(weight.dtype == torch.float64 for weight in after.values())
    changed = [name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])]
    assert sorted(changed) == sorted(after), changed
    in_file = {name.replace(".default", "") if "lora_" in name else "prompt_embeddings": weight
               for name, weight in after.items()}
    in_file["losses"] = torch.tensor([line["loss"] for line in trainer.state.log_history if "loss" in line], dtype=torch.float64)
    save_file(in_file, out, metadata={"format": "pt"})
    print(out.name, len(in_file), "tensors; losses", in_file["losses"].tolist())


def main():
    generator = torch.Generator().manual_seed(17)
    start = make_start(ROOT / "adapter", LoraConfig(**LORA), lambda shape: 0.2 * torch.randn(shape, generator=generator))
    train(patch_float64(PeftModel.from_pretrained(base(), ROOT / "adapter", is_trainable=True)), start,
          ROOT / "expected_dpo_lora.safetensors")
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    start = make_start(ROOT / "prefix", config, lambda shape: torch.randn(shape, generator=generator))
    # Wrapped by the trainer, so that it makes no copy of it for the reference.
    train(patch_float64(base()), start, ROOT / "expected_dpo_prefix.safetensors", peft_config=config)


if __name__ == "__main__":
    main()
