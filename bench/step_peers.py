#!/usr/bin/env python3
"""Forward + backward of one GRPO group on the CPU: ours, and the same model in plain PyTorch in every way to run a group.

  python3 bench/step_peers.py [--rounds 3] [--threads 2] [--layers 4] [--dtype float32 bfloat16] [--shapes 1024,128,8 ...]

Arms, all on the shape that fpdist_bench calls small, with the head on the completions' rows alone:
  ours      every shared token once          alone     ours, each sample in its own pack
  rows      PyTorch, samples as a batch      mask      PyTorch, the tree in one row under a dense mask
  segments  PyTorch, the tree by torch's flash attention on each node, merged by log-sum-exp, backward by its own
Every round runs all arms one after the other, so that a slow moment of the machine hits all of them. PyTorch has what
our program has: MKL's wide kernels (a library that answers for the processor, preloaded), memory that stays with the
process, and threads that spin for a moment only. Medians of wall time and of the processor's time (all threads), which
other processes disturb less. Needs a Python that imports torch (PYTHONPATH=.deps/python) and a C compiler. Prints a
table and, with --json FILE, the figures.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

SHAPES = ["1024,128,2", "1024,128,8", "2048,256,4", "512,512,8", "128,1024,2", "256,64,16"]  # prefix, completion, group
HIDDEN, INNER, HEADS, KEY_HEADS, DIM, VOCAB = 512, 1536, 8, 4, 64, 8192
PEERS = ["rows", "mask", "segments"]
SAME_FOR_ALL = {"GOMP_SPINCOUNT": "1000", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647",
                "MALLOC_TOP_PAD_": str(64 << 20)}


def our_arms(options, dtype, shape):
    """Seconds of wall and processor of our two arms."""
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as results:
        subprocess.run([f"{options.build}/bin/fpdist_bench", "step", "--device", "cpu", "--model", "small", "--rounds", "1",
                        "--layers", str(options.layers), "--dtype", dtype, "--grid", ",".join(map(str, shape)),
                        "--unshared-tokens", "1", "--threads", str(options.threads), "--json", results.name],
                       check=True, capture_output=True, env={**os.environ, **SAME_FOR_ALL})
        line = json.loads(results.read())
    return {"ours": (line["shared_seconds"], line["shared_cpu_seconds"]),
            "alone": (line["unshared_seconds"], line["unshared_cpu_seconds"])}


def make_peer(threads, layers, dtype):
    """A function (arm, shape) -> seconds of wall and processor of one forward and backward."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

    class Segments(torch.autograd.Function):
        """q, k, v [heads, rows, DIM]; a prefix and equal completions: (query rows, key rows, causal) pieces."""

        @staticmethod
        def pieces(prefix, completion, group):
            yield slice(0, prefix), slice(0, prefix), True
            yield slice(prefix, prefix + group * completion), slice(0, prefix), False
            for g in range(group):
                own = slice(prefix + g * completion, prefix + (g + 1) * completion)
                yield own, own, True

        @staticmethod
        def forward(context, q, k, v, shape):
            out, lse = torch.zeros(q.shape, dtype=torch.float32), torch.full(q.shape[:2], float("-inf"))
            for rows, keys, causal in Segments.pieces(*shape):
                o, l = flash(q[None, :, rows], k[None, :, keys], v[None, :, keys], is_causal=causal)
                both = torch.logaddexp(lse[:, rows], l[0])
                out[:, rows] = (out[:, rows] * (lse[:, rows] - both).exp()[..., None]
                                + o[0].float() * (l[0] - both).exp()[..., None])
                lse[:, rows] = both
            out = out.to(q.dtype)
            context.save_for_backward(q, k, v, out, lse)
            context.shape = shape
            return out

        @staticmethod
        def backward(context, grad):
            q, k, v, out, lse = context.saved_tensors
            dq, dk, dv = (torch.zeros(x.shape, dtype=torch.float32) for x in (q, k, v))
            for rows, keys, causal in Segments.pieces(*context.shape):
                parts = flash_backward(grad[None, :, rows], q[None, :, rows], k[None, :, keys], v[None, :, keys],
                                       out[None, :, rows], lse[None, :, rows], 0.0, causal)
                dq[:, rows] += parts[0][0]
                dk[:, keys] += parts[1][0]
                dv[:, keys] += parts[2][0]
            return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype), None

    def attend(arm, q, k, v, mask, shape):
        """q [batch, rows, HEADS, DIM], k and v with KEY_HEADS."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if arm == "segments":
            wide = [x[0].repeat_interleave(HEADS // KEY_HEADS, 0) for x in (k, v)]
            return Segments.apply(q[0], *wide, shape)[None].transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True).transpose(1, 2)

    def linear(into, out):
        return nn.Linear(into, out, bias=False)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(HIDDEN, 1e-6), nn.RMSNorm(HIDDEN, 1e-6)
            self.q, self.o = linear(HIDDEN, HEADS * DIM), linear(HEADS * DIM, HIDDEN)
            self.k, self.v = linear(HIDDEN, KEY_HEADS * DIM), linear(HIDDEN, KEY_HEADS * DIM)
            self.gate, self.up, self.down = linear(HIDDEN, INNER), linear(HIDDEN, INNER), linear(INNER, HIDDEN)

        def forward(self, x, turn, arm, mask, shape):
            h = self.norm1(x)
            q, k, v = (f(h).unflatten(-1, (-1, DIM)) for f in (self.q, self.k, self.v))
            x = x + self.o(attend(arm, turn(q), turn(k), v, mask, shape).flatten(2))
            h = self.norm2(x)
            return x + self.down(F.silu(self.gate(h)) * self.up(h))

    embed, blocks = nn.Embedding(VOCAB, HIDDEN), nn.ModuleList(Block() for _ in range(layers))
    norm, head = nn.RMSNorm(HIDDEN, 1e-6), linear(HIDDEN, VOCAB)
    model = nn.ModuleList([embed, blocks, norm, head]).to(getattr(torch, dtype))

    def layout(arm, shape):
        """Tokens [batch, rows], positions, mask, and for every completion token: row of its prediction, id."""
        prefix, completion, group = shape
        prompt, answers = torch.randint(VOCAB, (prefix,)), torch.randint(VOCAB, (group, completion))
        at = torch.arange(completion)
        if arm == "rows":
            tokens = torch.cat([prompt.expand(group, -1), answers], 1)
            first = torch.arange(group)[:, None] * (prefix + completion) + prefix - 1
            return tokens, torch.arange(prefix + completion), None, first + at, answers
        tokens = torch.cat([prompt, answers.flatten()])[None]
        position = torch.cat([torch.arange(prefix), (prefix + at).repeat(group)])
        own = prefix + torch.arange(group)[:, None] * completion + at - 1
        own[:, 0] = prefix - 1
        if arm == "segments":
            return tokens, position, None, own, answers
        node = torch.cat([torch.full((prefix,), -1), torch.arange(group).repeat_interleave(completion)])
        rows = torch.arange(len(node))
        mask = (rows[:, None] >= rows) & ((node == -1) | (node[:, None] == node))
        return tokens, position, mask, own, answers

    def run(arm, shape):
        tokens, position, mask, row, target = layout(arm, shape)
        angle = torch.outer(position.float(), 10000.0 ** (-torch.arange(0, DIM, 2).float() / DIM))
        cos, sin = angle.cos()[None, :, None], angle.sin()[None, :, None]

        def turn(x):
            a, b = x.float().chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)

        model.zero_grad(set_to_none=False)
        wall, cpu = time.perf_counter(), time.process_time()
        x = embed(tokens)
        for block in blocks:
            x = block(x, turn, arm, mask, shape)
        logits = head(norm(x).flatten(0, 1)[row.flatten()]).float()
        logp = -F.cross_entropy(logits, target.flatten(), reduction="none")
        ratio = torch.exp(logp - logp.detach())
        advantage = torch.where(torch.arange(shape[2]) % 2 == 1, 1.0, -1.0).repeat_interleave(shape[1])
        loss = -(ratio * advantage).mean()
        loss.backward()
        return time.perf_counter() - wall, time.process_time() - cpu, logp.sum().item()

    def check():
        """All arms are one computation, or the comparison is none."""
        sums = []
        for arm in PEERS:
            torch.manual_seed(1)
            sums.append(run(arm, (40, 16, 3))[2])
        if max(sums) - min(sums) > (1e-2 if dtype == "float32" else 3.0):
            sys.exit(f"the arms' log-probabilities differ: {dict(zip(PEERS, sums))}")

    check()
    return lambda arm, shape: run(arm, shape)[:2]


def serve():
    """The process that PyTorch runs in: a line 'arm P R G' in, a line with wall and processor seconds out."""
    threads, layers, dtype = sys.argv[2:5]
    answer(make_peer(int(threads), int(layers), dtype))


def answer(run):
    """What a Server talks to: says ready, then a line of the numbers of run(arm, shape) for each line 'arm P R G'."""
    print("ready", flush=True)
    for line in sys.stdin:
        arm, *shape = line.split()
        print(*run(arm, tuple(map(int, shape))), flush=True)


def fair_environment(folder):
    """What every arm's process has; MKL's wide kernels come from a library that is made in `folder`."""
    lift = f"{folder}/lift.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", lift], check=True, text=True,
                   input="int mkl_serv_intel_cpu_true(void) { return __builtin_cpu_supports(\"avx2\") != 0; }\n")
    return {**os.environ, **SAME_FOR_ALL, "LD_PRELOAD": lift}


class Server:
    """A program that says ready, then answers a line 'arm P R G' with a line of numbers; PyTorch in a process of its own."""

    def __init__(self, command, environment, cure):
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", *map(str, command)], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, env=environment)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{' '.join(map(str, command))} does not start: {cure}")

    def run(self, arm, shape):
        print(arm, *shape, file=self.process.stdin, flush=True)
        return tuple(map(float, self.process.stdout.readline().split()))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def report(dtype, shape, rounds, compared, ratio):
    """Prints a cell's medians, rounds being [{arm: (wall, processor seconds)}], and `ratio` of both as `compared`; returns
    what a JSON file says of the cell."""
    of = {arm: [statistics.median(r[arm][i] for r in rounds) for i in range(2)] for arm in rounds[0]}
    print(f"{dtype:8} P {shape[0]:5} R {shape[1]:4} G {shape[2]:2}  "
          + "  ".join(f"{arm} {wall * 1e3:.0f} ({cpu * 1e3:.0f})" for arm, (wall, cpu) in of.items())
          + f"  {compared} {ratio[0]:.2f} ({ratio[1]:.2f})", flush=True)
    return dict(dtype=dtype, prefix=shape[0], completion=shape[1], group=shape[2], seconds={a: of[a][0] for a in of},
                cpu_seconds={a: of[a][1] for a in of})


def measure(options, dtype, shape, peers):
    for arm in PEERS:
        peers.run(arm, shape)  # warm-up; ours has its own
    rounds = []
    for _ in range(options.rounds):
        rounds.append({**our_arms(options, dtype, shape), **{arm: peers.run(arm, shape) for arm in PEERS}})
    best = [statistics.median(r["ours"][i] / min(r[arm][i] for arm in PEERS) for r in rounds) for i in range(2)]
    return dict(report(dtype, shape, rounds, "ours/best", best), ours_over_best=best[0], ours_over_best_cpu=best[1])


def parser_of(words, shapes):
    """The options that every bench of peers has."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--shapes", nargs="+", default=shapes, metavar="P,R,G")
    parser.add_argument("--json")
    return parser


def run_cells(options, start, cell):
    """start(dtype, environment) -> servers by name; cell(dtype, shape, servers) -> a line of the JSON file."""
    print("milliseconds of wall (of processor, all threads); medians of", options.rounds, "rounds,", options.threads, "threads")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        environment = fair_environment(folder)
        for dtype in options.dtype:
            servers = start(dtype, environment)
            for shape in (tuple(map(int, text.split(","))) for text in options.shapes):
                lines.append(cell(dtype, shape, servers))
            for server in servers.values():
                server.close()
    if options.json:
        with open(options.json, "w") as out:
            json.dump(lines, out, indent=1)


def main():
    if sys.argv[1:2] == ["--serve"]:
        return serve()
    options = parser_of(__doc__, SHAPES).parse_args()
    run_cells(options,
              lambda dtype, environment: {"peers": Server([__file__, "--serve", options.threads, options.layers, dtype], environment,
                                                          "run this with PYTHONPATH=.deps/python")},
              lambda dtype, shape, servers: measure(options, dtype, shape, servers["peers"]))


if __name__ == "__main__":
    main()
