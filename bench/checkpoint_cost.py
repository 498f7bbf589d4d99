#!/usr/bin/env python3
"""What a checkpoint costs: how long it takes, how long the steps wait for it, and how long a run takes to go on from it,
against reading the files once.
Usage: checkpoint_cost.py BIN_DIR MPIRUN [--ranks N] [--hidden H] [--layers L]; a state is 12 bytes a parameter."""
import argparse
import array
import json
import os
import pathlib
import random
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", type=pathlib.Path)
    parser.add_argument("mpirun")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--apart", type=int, default=16, help="steps between two saves: enough for one to be over")
    parser.add_argument("--resumes", type=int, default=5)
    parser.add_argument("--folder", default=None, help="where to write; default: the system's temporary folder")
    return parser.parse_args()


def make_model(folder, hidden, layers):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 320, "hidden_size": hidden,
              "intermediate_size": 4 * hidden, "num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": 8,
              "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": True,
              "torch_dtype": "float32"}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": (320, hidden), "model.norm.weight": (hidden,)}
    for layer in range(layers):
        head = f"model.layers.{layer}."
        for name in "qkvo":
            shapes[f"{head}self_attn.{name}_proj.weight"] = (hidden, hidden)
        for name, shape in (("gate", (4 * hidden, hidden)), ("up", (4 * hidden, hidden)), ("down", (hidden, 4 * hidden))):
            shapes[f"{head}mlp.{name}_proj.weight"] = shape
        shapes[head + "input_layernorm.weight"] = shapes[head + "post_attention_layernorm.weight"] = (hidden,)
    rng, header, at = random.Random(0), {}, 0
    block = array.array("f", (rng.gauss(0, 0.02) for _ in range(hidden))).tobytes()
    for name, shape in shapes.items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _ in range(at // len(block)):
            file.write(block)
    return at // 4


def mpi_environment():
    return dict(os.environ, OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def read_once(folder):
    """Seconds to read every file, none of them in the page cache."""
    forget(folder)
    start = time.monotonic()
    for path in sorted(folder.iterdir()):
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 24):
                pass
    return time.monotonic() - start


def forget(folder):
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def main():
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = pathlib.Path(temporary)
        parameters = make_model(folder / "model", options.hidden, options.layers)
        rows = [{"prompt_ids": list(range(1, 20)), "chosen_ids": [30, 31 + i % 3], "rejected_ids": [30, 60 + i % 5]} for i in range(16)]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        def train(*more):
            line = [options.mpirun, "-np", str(options.ranks), str(options.bin / "fpdist_train"), "--method", "reward", "--model.path",
                    str(folder / "model"), "--data.path", str(folder / "pairs.jsonl"), "--train.output_dir", str(folder / "out"),
                    "--train.groups_per_step", "4", "--train.save_steps", str(options.apart), "--train.save_total_limit", "1", *more]
            done = subprocess.run(line, env=mpi_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                sys.exit(done.stdout)
            return done.stdout

        steps = str(3 * options.apart + 1)
        output = train("--train.max_steps", steps)
        saves = [tuple(map(float, found)) for found in re.findall(r"saved \S+ in ([\d.]+) s; steps waited ([\d.]+) s", output)]
        state = folder / f"out/checkpoint-{steps}"
        size = sum(path.stat().st_size for path in state.iterdir())
        print(f"{parameters / 1e6:.1f} M parameters on {options.ranks} ranks, {size / 1e9:.2f} GB a checkpoint")
        for which, (seconds, waited) in zip(("first", "second"), saves):  # what follows is waited for by the run's end
            print(f"{which} save: {seconds:.2f} s beside the steps ({size / seconds / 1e6:.0f} MB/s), which waited {waited:.3f} s, "
                  f"{100 * waited / seconds:.1f} %")
        reading, resuming = [], []
        for _ in range(options.resumes):  # in turn: a disk's speed changes from one second to the next
            reading.append(read_once(state))
            forget(state)
            resumed = train("--train.max_steps", steps, "--train.resume_from_checkpoint", "auto")
            resuming.append(float(re.search(r"going on from \S+, after step \d+, read in ([\d.]+) s", resumed).group(1)))
        ratios = [after / before for before, after in zip(reading, resuming)]
        print(f"files read once in {statistics.median(reading):.2f} s, gone on from in {statistics.median(resuming):.2f} s: "
              f"{statistics.median(ratios):.2f} times ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
