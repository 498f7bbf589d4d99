#!/usr/bin/env python3
"""fpdist_plan's prediction for a cluster beside what others have published for the same step.

usage: scaling_paper.py [--program build/release/bin/fpdist_plan]
Megatron-LM's strong scaling (its README): 175B parameters, 1,152 samples of 4,096 tokens a step, vocabulary 131k, bfloat16,
47 % MFU on 96 H100 falling to 42 % on 4,608. Prints markdown.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
# As many parameters in gated MLPs as GPT-3's 4 x hidden has in plain ones.
MODEL = {"model_type": "llama", "hidden_size": 12288, "intermediate_size": 32768, "num_hidden_layers": 96, "num_attention_heads": 96,
         "num_key_value_heads": 96, "vocab_size": 131072, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
PUBLISHED = {96: 0.47, 4608: 0.42}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=ROOT / "build" / "release" / "bin" / "fpdist_plan")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "config.json").write_text(json.dumps(MODEL))
        (folder / "lengths.jsonl").write_text('{"prefix": 0, "completions": [4096]}\n' * 1152)
        subprocess.run([options.program, "--lengths", folder / "lengths.jsonl", "--model", folder / "config.json", "--pack.max_tokens", "4096",
                        "--cluster", ROOT / "configs" / "clusters" / "h100-8.yaml", "--world-sizes", "96,192,768,1152,4608",
                        "--json", folder / "plan.json"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        result = json.loads((folder / "plan.json").read_text())
    print("| GPUs | mesh | step s | MFU predicted | published | binds | parts |\n|---|---|---|---|---|---|---|")
    for world in result["cluster"]["worlds"]:
        mesh = " x ".join(f"{axis} {world[axis]}" for axis in ("dp", "pp", "cp", "tp"))
        mesh += f", {world['schedule']}" + (", recompute" if world["recompute"] else "")
        parts = ", ".join(f"{name} {100 * part / world['step_seconds']:.1f} %" for name, part in world["seconds"].items())
        published = f"{100 * PUBLISHED[world['ranks']]:.0f} %" if world["ranks"] in PUBLISHED else ""
        print(f"| {world['ranks']} | {mesh} | {world['step_seconds']:.1f} | {100 * world['mfu']:.1f} % "
              f"| {published} | {world['binds']} | {parts} |")


if __name__ == "__main__":
    main()
