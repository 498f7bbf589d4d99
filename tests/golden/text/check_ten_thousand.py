"""Token for token: a text worker and transformers' AutoTokenizer over 10,000 lines, for every tokenizer of this folder.
Needs transformers (see README.md). Usage: check_ten_thousand.py [LINES] [MORE DIRECTORIES ...]"""
import pathlib
import sys

import text_corpus
import transformers
import worker_client

HERE = pathlib.Path(__file__).resolve().parent


def check(folder, lines):
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = worker_client.WorkerClient(folder)
    found = ours.encode(lines)
    wrong = [index for index, line in enumerate(lines) if found[index] != (theirs(line)["input_ids"], None)]
    tokens = sum(len(one[0]) for one in found)
    print(f"{folder.name}: {len(lines)} lines, {tokens} tokens, {len(wrong)} lines differ ({type(theirs).__name__})")
    for index in wrong[:3]:
        print(f"  {lines[index]!r}\n  {theirs(lines[index])['input_ids']}\n  {found[index]}")
    ours.close()
    return not wrong


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    folders = [HERE / name for name in ("qwen", "llama3", "spm_bpe", "unigram", "sentencepiece")] + [pathlib.Path(one) for one in sys.argv[2:]]
    lines = text_corpus.lines(count, 7)
    sys.exit(not all([check(folder, lines) for folder in folders]))
