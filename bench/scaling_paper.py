#!/usr/bin/env python3
"""fpdist_plan's prediction for a cluster beside what others have published for the same step.

usage: scaling_paper.py [--program build/release/bin/fpdist_plan]
Megatron-LM's strong scaling (its README): 175B parameters, 1,152 samples of 4,096 tokens a step, vocabulary 131k, bfloat16,
47 % MFU on 96 H100 falling to 42 % on 4,608.
Attention alone over context-parallel ranks as MagiAttention measured it (docs/source/blog/cp_benchmark.md, H100, read off its
charts): 64:8 heads of 128, 8,192 tokens a GPU, one sequence, and documents of at most a quarter of all tokens by a histogram
of its own; here of 4,096 each. Its own native way and Ulysses; TFLOP/s a GPU of what is visible,
forward and backward together. Prints markdown.
"""
import argparse
import json
import pathlib
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
# As many parameters in gated MLPs as GPT-3's 4 x hidden has in plain ones.
MODEL = {"model_type": "llama", "hidden_size": 12288, "intermediate_size": 32768, "num_hidden_layers": 96, "num_attention_heads": 96,
         "num_key_value_heads": 96, "vocab_size": 131072, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
PUBLISHED = {96: 0.47, 4608: 0.42}

ATTENTION = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 64,
             "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 64, "max_position_embeddings": 1 << 20, "rms_norm_eps": 1e-5}
CONTEXT_RANKS = (8, 16, 32, 64)
MAGI = {"one sequence": {"native": ((645, 648, 621, 594), (529, 531, 540, 528)), "Ulysses": ((601, 557, 580, 587), (582, 560, 573, 585))},
        "documents": {"native": ((459, 426, 314, 238), (360, 371, 333, 264)), "Ulysses": ((278, 199, 186, 163), (332, 294, 277, 249))}}


def plan(options, folder, model, completions, more):
    (folder / "config.json").write_text(json.dumps(model))
    (folder / "lengths.jsonl").write_text("".join(f'{{"prefix": 0, "completions": [{one}]}}\n' for one in completions))
    subprocess.run([options.program, "--lengths", folder / "lengths.jsonl", "--model", folder / "config.json", "--json",
                    folder / "plan.json", *map(str, more)], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return json.loads((folder / "plan.json").read_text())["cluster"]["worlds"]


def megatron(worlds):
    print("| GPUs | mesh | step s | MFU predicted | published | binds | parts |\n|---|---|---|---|---|---|---|")
    for world in worlds:
        mesh = " x ".join(f"{axis} {world[axis]}" for axis in ("dp", "pp", "cp", "tp"))
        mesh += f", {world['schedule']}" + (", recompute" if world["recompute"] else "")
        parts = ", ".join(f"{name} {100 * part / world['step_seconds']:.1f} %" for name, part in world["seconds"].items())
        published = f"{100 * PUBLISHED[world['ranks']]:.0f} %" if world["ranks"] in PUBLISHED else ""
        print(f"| {world['ranks']} | {mesh} | {world['step_seconds']:.1f} | {100 * world['mfu']:.1f} % "
              f"| {published} | {world['binds']} | {parts} |")


def attention(options, folder):
    cluster = (ROOT / "configs" / "clusters" / "h100-8.yaml").read_text()
    (folder / "no_memory.yaml").write_text(re.sub("memory_bandwidth: [^ ]*", "memory_bandwidth: 1e24", cluster))
    print("\n| what | GPUs | predicted | heads over | keys hidden | native | Ulysses |\n|---|---|---|---|---|---|---|")
    for what, published in MAGI.items():
        for at, ranks in enumerate(CONTEXT_RANKS):
            tokens = 8192 * ranks
            lengths = [tokens] if what == "one sequence" else [4096] * (tokens // 4096)
            worlds = plan(options, folder, ATTENTION, lengths, ["--pack.max_tokens", tokens, "--cluster", folder / "no_memory.yaml",
                                                                "--world-sizes", ranks, "--complete"])
            mesh = next(one for one in worlds[0]["fitting"] if one["cp"] == ranks and not one["recompute"] and one["max_tokens"] == tokens)
            pairs = sum(length * (length + 1) / 2 for length in lengths)
            seconds = mesh["seconds"]["compute"] + mesh["seconds"]["cp"]
            rates = [3.5 / (1 / forward[at] + 2.5 / backward[at]) for forward, backward in published.values()]
            print(f"| {what} | {ranks} | {14 * 64 * 128 * pairs / ranks / seconds / 1e12:.0f} | {mesh['ulysses']} "
                  f"| {100 * mesh['seconds']['compute'] / seconds:.0f} % | {rates[0]:.0f} | {rates[1]:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=ROOT / "build" / "release" / "bin" / "fpdist_plan")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        worlds = plan(options, folder, MODEL, [4096] * 1152, ["--pack.max_tokens", 4096, "--cluster", ROOT / "configs" / "clusters" / "h100-8.yaml",
                                                              "--world-sizes", "96,192,768,1152,4608"])
        megatron(worlds)
        attention(options, folder)


if __name__ == "__main__":
    main()
