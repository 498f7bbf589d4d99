#!/usr/bin/env python3
"""Forward + backward of one GRPO group on the CPU: shared, every sample alone, and the same model in plain PyTorch.

  python3 bench/step_speed.py [--rounds 5] [--threads 2] [--build build/release] [--shapes 1024,128,8 ...]

Every round runs all three arms one after the other, so that a slow moment of the machine hits all of them; figures are
medians over rounds. PyTorch runs sample by sample with scaled_dot_product_attention (float32, fused log-softmax on the
completion rows only), its model built here with the shape that fpdist_bench calls small. Needs a Python that imports torch; without one
the PyTorch column says so. Prints a table and, with --json FILE, the figures.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

SHAPES = ["1024,128,8", "2048,256,4", "512,512,1"]  # prefix, completion, group; the last one has nothing to share


def our_arms(build, shape, threads):
    prefix, completion, group = shape
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as results:
        # 1: every unshared sample alone in its pack
        subprocess.run([f"{build}/bin/fpdist_bench", "step", "--device", "cpu", "--model", "small", "--rounds", "1", "--grid",
                        f"{prefix},{completion},{group}", "--unshared-tokens", "1", "--threads", str(threads), "--json",
                        results.name], check=True, capture_output=True)
        return json.loads(results.read())


def make_peer(threads):
    """The same transformer in plain PyTorch; returns a function shape -> seconds of one forward and backward."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    hidden, inner, heads, kv, dim, vocab, layers = 512, 1536, 8, 4, 64, 8192, 8

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(hidden, 1e-6), nn.RMSNorm(hidden, 1e-6)
            self.q, self.k = nn.Linear(hidden, heads * dim, bias=False), nn.Linear(hidden, kv * dim, bias=False)
            self.v, self.o = nn.Linear(hidden, kv * dim, bias=False), nn.Linear(heads * dim, hidden, bias=False)
            self.gate, self.up = nn.Linear(hidden, inner, bias=False), nn.Linear(hidden, inner, bias=False)
            self.down = nn.Linear(inner, hidden, bias=False)

        def forward(self, x, cos, sin):
            n = x.shape[0]
            h = self.norm1(x)
            q, k, v = (f(h).view(n, -1, dim).transpose(0, 1) for f in (self.q, self.k, self.v))
            rotate = lambda t: torch.cat((t[..., :dim // 2] * cos - t[..., dim // 2:] * sin,
                                          t[..., dim // 2:] * cos + t[..., :dim // 2] * sin), -1)
            a = F.scaled_dot_product_attention(rotate(q)[None], rotate(k)[None], v[None], is_causal=True, enable_gqa=True)
            x = x + self.o(a[0].transpose(0, 1).reshape(n, -1))
            h = self.norm2(x)
            return x + self.down(F.silu(self.gate(h)) * self.up(h))

    embed, blocks = nn.Embedding(vocab, hidden), nn.ModuleList(Block() for _ in range(layers))
    norm, head = nn.RMSNorm(hidden, 1e-6), nn.Linear(hidden, vocab, bias=False)
    parameters = [p for m in (embed, blocks, norm, head) for p in m.parameters()]

    def seconds(shape):
        prefix, completion, group = shape
        n = prefix + completion
        angle = torch.outer(torch.arange(n).float(), 10000.0 ** (-torch.arange(0, dim, 2).float() / dim))
        cos, sin = angle.cos(), angle.sin()
        samples = [torch.randint(vocab, (n,)) for _ in range(group)]
        for parameter in parameters:
            parameter.grad = None
        start = time.perf_counter()
        for index, tokens in enumerate(samples):
            x = embed(tokens)
            for block in blocks:
                x = block(x, cos, sin)
            logits = head(norm(x)[prefix - 1:-1])
            logp = -F.cross_entropy(logits, tokens[prefix:], reduction="none")
            ratio = torch.exp(logp - logp.detach())
            (-(ratio * (1.0 if index % 2 else -1.0)).sum() / (group * completion)).backward()
        return time.perf_counter() - start

    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="P,R,G")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    try:
        peer = make_peer(arguments.threads)
    except ImportError as error:
        print(f"no PyTorch column: this Python cannot import torch ({error})", file=sys.stderr)
        peer = None
    rows = []
    for shape in (tuple(map(int, text.split(","))) for text in arguments.shapes):
        if peer:
            peer(shape)  # warm-up
        rounds = []
        for _ in range(arguments.rounds):
            arms = our_arms(arguments.build, shape, arguments.threads)
            rounds.append((arms["shared_seconds"], arms["unshared_seconds"], peer(shape) if peer else float("nan")))
        shared, alone, torch_seconds = (statistics.median(r[i] for r in rounds) for i in range(3))
        speedup = statistics.median(r[1] / r[0] for r in rounds)
        against = statistics.median(r[2] / r[1] for r in rounds)
        bound = arms["bound"]
        rows.append(dict(prefix=shape[0], completion=shape[1], group=shape[2], shared_seconds=shared, alone_seconds=alone,
                         pytorch_seconds=torch_seconds, speedup=speedup, bound=bound, of_bound=speedup / bound,
                         bound_with_head=arms["bound_with_head"], pytorch_over_alone=against))
        print(f"P {shape[0]:5} R {shape[1]:4} G {shape[2]:2}  shared {shared:.3f} s  alone {alone:.3f} s  PyTorch {torch_seconds:.3f} s"
              f"  speedup {speedup:.2f} of {bound:.2f} = {speedup / bound:.3f}  PyTorch/alone {against:.2f}", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump(rows, out, indent=1)


if __name__ == "__main__":
    main()
