"""A model and a tokenizer small enough for an example, made here: nothing is downloaded."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

WORDS = "<pad> <s> </s> is it that sum of and one two three four five six seven eight nine ten yes no".split()


def tokenizer():
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="no"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def model(kind, **config):
    """kind: LlamaForCausalLM or LlamaForSequenceClassification."""
    torch.manual_seed(0)
    return kind(LlamaConfig(vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                            num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2, **config))


def pairs():
    """Long prompts, answers of a word."""
    return [{"prompt": f"is it that {a} and {b} and {a} and {b} is ten ", "chosen": "yes", "rejected": "no"}
            for a in WORDS[9:19] for b in WORDS[9:19]]
