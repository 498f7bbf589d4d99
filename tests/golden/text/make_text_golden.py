"""golden.json: what transformers and TRL make of the lines, conversations and rows here, with the tokenizers of this folder.
Needs transformers 5.23 and TRL 1.16 (README.md says how). Usage: make_text_golden.py"""
import json
import pathlib
import types

import datasets
import templates
import text_corpus
import transformers
from trl.trainer import dpo_trainer, kto_trainer, reward_trainer, sft_trainer

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ("qwen", "llama3", "spm_bpe", "unigram", "sentencepiece")
TOKENIZERS = {name: transformers.AutoTokenizer.from_pretrained(HERE / name) for name in NAMES}

PROMPTS = ["What is 17 + 25?\nA: ", "Name a colour.", "Ein Satz über die Größe", "  two spaces ", "ends in a let", ""]
ANSWERS = ["42", " blue", "\nkurz", "ter word", "<|im_end|>", "a much longer answer that says the same thing over and over " * 2]
QUESTION = {"role": "user", "content": "What is 2 * 3?"}
SYSTEM = {"role": "system", "content": "Be brief."}
THINKING = {"role": "assistant", "content": "It is 6, because 3 + 3 is."}
AGAIN = {"role": "user", "content": "And 2 * 4?"}


def says(text):
    return [{"role": "assistant", "content": text}]


def strings(make):
    return [make(index, prompt) for index, prompt in enumerate(PROMPTS)]


ROWS = {
    "text": [{"text": prompt + ANSWERS[index]} for index, prompt in enumerate(PROMPTS)],
    "prompt_completion": strings(lambda i, prompt: {"prompt": prompt, "completion": ANSWERS[i]}),
    "messages": [{"messages": [QUESTION, *says("6")]}, {"messages": [SYSTEM, QUESTION, THINKING, AGAIN, *says("8")]}],
    "chat_prompt_completion": [{"prompt": [QUESTION], "completion": says("6")},
                               {"prompt": [SYSTEM, QUESTION, THINKING, AGAIN], "completion": says("8\n")}],
    "tools": [{"messages": [QUESTION, *says("6")], "tools": [templates.WEATHER]}],
    "tools_as_text": [{"messages": [QUESTION, *says("6")], "tools": json.dumps([templates.WEATHER])}],
    "template_kwargs": [{"prompt": [QUESTION], "completion": says("6"), "chat_template_kwargs": {"enable_thinking": False}}],
    "pairs": strings(lambda i, prompt: {"prompt": prompt, "chosen": ANSWERS[i], "rejected": ANSWERS[(i + 1) % 6]}),
    "chat_pairs": [{"prompt": [QUESTION], "chosen": says("6"), "rejected": says("5, I think")},
                   {"prompt": [SYSTEM, QUESTION, THINKING, AGAIN], "chosen": says("8"), "rejected": says("9")}],
    "implicit_pairs": [{"chosen": "Q: 1+1 A: two", "rejected": "Q: 1+1 A: three"}, {"chosen": "the same text", "rejected": "the same text and more"},
                       {"chosen": "Größe äu", "rejected": "Größe äö"}, {"chosen": "Is it so? zany", "rejected": "Is it so? quiz"}, {"chosen": "one two", "rejected": "one three"}],
    "implicit_chat_pairs": [{"chosen": [QUESTION, *says("6")], "rejected": [QUESTION, *says("7")]},
                            {"chosen": [SYSTEM, QUESTION, THINKING, AGAIN, *says("8")], "rejected": [SYSTEM, QUESTION, THINKING, AGAIN, *says("9")]}],
    "labelled": strings(lambda i, prompt: {"prompt": prompt, "completion": ANSWERS[i], "label": i % 2 == 0}),
    "chat_labelled": [{"prompt": [QUESTION], "completion": says("6"), "label": True}, {"prompt": [SYSTEM, QUESTION], "completion": says("5"), "label": False}],
}


def cases():
    """(method, rows' name, tokenizer, options)"""
    plain = ("qwen", "llama3", "spm_bpe", "unigram")
    for tokenizer in plain:
        for name in ("text", "prompt_completion"):
            yield "sft", name, tokenizer, {}
        yield "sft", "prompt_completion", tokenizer, {"completion_only_loss": False}
        yield "sft", "prompt_completion", tokenizer, {"max_length": 12}
        for options in ({}, {"max_length": 12}, {"max_length": 12, "truncation_mode": "keep_end"}):
            yield "dpo", "pairs", tokenizer, options
        yield "dpo", "implicit_pairs", tokenizer, {}
        for name in ("pairs", "implicit_pairs"):
            yield "reward", name, tokenizer, {}
        yield "reward", "pairs", tokenizer, {"max_length": 40}
        yield "kto", "labelled", tokenizer, {}
    for tokenizer in ("qwen", "llama3"):
        for name in ("messages", "chat_prompt_completion", "tools", "tools_as_text", "template_kwargs"):
            yield "sft", name, tokenizer, {}
        yield "sft", "messages", tokenizer, {"max_length": 40, "truncation_mode": "keep_end"}
        for name in ("chat_pairs", "implicit_chat_pairs"):
            yield "dpo", name, tokenizer, {}
            yield "reward", name, tokenizer, {}
        yield "kto", "chat_labelled", tokenizer, {}
    for name in ("messages", "chat_prompt_completion"):
        yield "sft", name, "llama3", {"assistant_only_loss": True}
    yield "sft", "chat_prompt_completion", "llama3", {"assistant_only_loss": True, "completion_only_loss": False}


def prepare(trainer, rows, tokenizer, options):
    arguments = types.SimpleNamespace(**{
        "dataset_num_proc": None, "dataset_text_field": "text", "max_length": 1024, "truncation_mode": "keep_start",
        "assistant_only_loss": False, "completion_only_loss": None, "shuffle_dataset": False, "seed": 0, **options})
    only = arguments.completion_only_loss
    itself = types.SimpleNamespace(
        _tokenizer=tokenizer, chat_template=None, completion_only_loss="completion" in rows[0] if only is None else only,
        calculate_KL=False, desirable_weight=1.0, undesirable_weight=1.0)
    more = (False, None) if trainer is sft_trainer.SFTTrainer else ()
    prepared = trainer._prepare_dataset(itself, datasets.Dataset.from_list(rows), tokenizer, arguments, *more, "train")
    return prepared, arguments


def collated(rows, tokenizer, arguments):
    """(ids, labels) of chosen and rejected of each row."""
    collator = dpo_trainer.DataCollatorForPreference(
        pad_token_id=0, max_length=arguments.max_length, truncation_mode=arguments.truncation_mode)
    out = []
    for row in rows:
        batch = collator([row])
        pair = []
        for at in range(2):
            length = int(batch["attention_mask"][at].sum())
            ids = batch["input_ids"][at][:length].tolist()
            mask = batch["completion_mask"][at][:length].tolist()
            pair.append([ids, [one if used else -100 for one, used in zip(ids, mask)]])
        out.append(pair)
    return out


def expected(method, rows, tokenizer, options):
    """Samples (ids, labels or none) of each row that is left."""
    rows = json.loads(json.dumps(rows))
    if method == "sft":
        prepared, _ = prepare(sft_trainer.SFTTrainer, rows, tokenizer, options)
        return [[[row["input_ids"], row["labels"]]] for row in prepared]
    if method == "dpo":
        prepared, arguments = prepare(dpo_trainer.DPOTrainer, rows, tokenizer, options)
        return collated(prepared, tokenizer, arguments)
    if method == "reward":
        prepared, _ = prepare(reward_trainer.RewardTrainer, rows, tokenizer, options)
        return [[[row["chosen_ids"], None], [row["rejected_ids"], None]] for row in prepared]
    prepared, arguments = prepare(kto_trainer.KTOTrainer, rows, tokenizer, options)
    return [[[row["prompt_ids"] + row["completion_ids"], [-100] * len(row["prompt_ids"]) + row["completion_ids"]]] for row in prepared]


def rendered(tokenizer, source, chat, generation_prompt):
    try:
        return tokenizer.apply_chat_template(chat["messages"], chat_template=source, tools=chat.get("tools"), tokenize=False,
                                             add_generation_prompt=generation_prompt, **chat.get("kwargs", {}))
    except Exception as problem:  # the template's own words, or jinja2's
        return f"error: {problem}"


def main():
    lines = text_corpus.lines(150, 11)
    golden = {
        "lines": lines,
        "ids": {name: [tokenizer(line)["input_ids"] for line in lines] for name, tokenizer in TOKENIZERS.items()},
        "templates": templates.TEMPLATES,
        "chats": templates.CHATS,
        "rendered": [{"template": name, "chat": index, "generation_prompt": prompt,
                      "text": rendered(TOKENIZERS["llama3"], source, chat, prompt)}
                     for name, source in templates.TEMPLATES.items() for index, chat in enumerate(templates.CHATS) for prompt in (False, True)],
        "rows": ROWS,
        "cases": [{"method": method, "rows": name, "tokenizer": tokenizer, "options": options,
                   "groups": expected(method, ROWS[name], TOKENIZERS[tokenizer], options)} for method, name, tokenizer, options in cases()],
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=True, separators=(',', ':'))}" for key, value in golden.items()]
    (HERE / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
