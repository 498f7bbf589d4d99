#!/usr/bin/env python3
"""Text to token ids: read_dataset with text workers against `tokenizers.encode_batch` alone, on the same text with as many
threads, and rows of token ids. Makes its own text and a byte-level BPE of 32,000 tokens in Llama 3's configuration.
Usage: text_speed.py BUILD_DIRECTORY [MEGABYTES] [THREADS]"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / ".deps/text"), str(ROOT / "tests/golden/text")]
BASELINE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import tokenizers
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[2])
texts = [json.loads(line)["text"] for line in open(sys.argv[3], encoding="utf-8")]
start = time.perf_counter()
tokens = sum(len(one.ids) for one in tokenizer.encode_batch(texts))
print(json.dumps({"tokens": tokens, "seconds": time.perf_counter() - start}))
"""


def words(megabytes):
    """Rows of about a kilobyte, words of four scripts in Zipf's proportions."""
    import random

    import text_corpus

    rng = random.Random(0)
    vocabulary = [word for lines in text_corpus.WORDS.values() for word in lines.split()]
    vocabulary += ["".join(rng.choice("aeioubcdfglmnprst") for _ in range(rng.randint(2, 11))) for _ in range(20000)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    size = 0
    while size < megabytes * 1e6:
        row = " ".join(rng.choices(vocabulary, weights, k=150)) + rng.choice(["\n", ".", " 12,345"])
        size += len(row.encode())
        yield row


def make_model(folder, rows):
    import make_tokenizers
    from tokenizers import trainers

    tokenizer = make_tokenizers.llama3()[0]
    tokenizer.train_from_iterator(rows[:2000], trainers.BpeTrainer(vocab_size=32000, show_progress=False,
                                  initial_alphabet=sorted(make_tokenizers.pre_tokenizers.ByteLevel.alphabet())))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    tokenizer.post_processor = make_tokenizers.processors.ByteLevel(trim_offsets=False)
    make_tokenizers.save(folder, tokenizer, {"eos_token": "<|eot_id|>"})


def ours(program, *arguments):
    return json.loads(subprocess.run([program, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout)


def main():
    build = pathlib.Path(sys.argv[1])
    megabytes = float(sys.argv[2]) if len(sys.argv) > 2 else 20
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        folder, rows = pathlib.Path(scratch), list(words(megabytes))
        make_model(folder / "model", rows)
        text = folder / "text.jsonl"
        text.write_text("".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows))
        bytes_of_text = sum(len(row.encode()) for row in rows)
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
        done = subprocess.run([sys.executable, "-I", "-S", "-c", BASELINE, ROOT / ".deps/text", folder / "model/tokenizer.json", text],
                              check=True, stdout=subprocess.PIPE, text=True, env=environment)
        alone = json.loads(done.stdout)
        reader = ours(build / "bin/text_speed", folder / "model", text, threads)
        per_second = {"encode_batch": bytes_of_text / 1e6 / alone["seconds"], "read_dataset": bytes_of_text / 1e6 / reader["seconds"]}
        ids = folder / "ids.jsonl"
        ids.write_text("".join(json.dumps({"input_ids": list(range(1000, 31000, 40)), "labels": list(range(1000, 31000, 40))}) + "\n"
                               for _ in range(int(megabytes * 125))))
        tokens = ours(build / "bin/text_speed", folder / "model", ids, threads)
        print(json.dumps({"bench": "text", "threads": threads, "mb": round(bytes_of_text / 1e6, 1), "tokens": [alone["tokens"], reader["tokens"]],
                          "mb_per_second": {name: round(value, 2) for name, value in per_second.items()},
                          "share": round(per_second["read_dataset"] / per_second["encode_batch"], 3),
                          "token_rows_mb_per_second": round(tokens["file_mb_per_second"], 1), "at": time.strftime("%Y-%m-%d")}))


main()
