#!/usr/bin/env python3
"""fpdist_plan's prediction of a training step on this machine's processors beside the step that a run takes.

usage: scaling_machine.py BIN_DIR MPIRUN [--ranks 2] [--steps 5] [--keep CLUSTER.yaml]
A cluster file of this machine is measured first, N ranks at once: links and latency by `fpdist_bench comm`, memory by copies,
and what is a model's own, the rates of its products and of its attention and what a pack costs besides, from steps of one rank with
short sequences, with long ones, and in many packs (each is what makes the prediction of that step the measured one). Then, for
meshes of N ranks, medians of steps of fpdist_train beside the prediction. Needs a quiet machine. Where ranks share cores, a rank that
waits lends its core to the others: there a pipeline's bubble costs nothing, and the last column counts. Prints markdown.
"""
import argparse
import json
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile

from checkpoint_cost import make_model, mpi_environment

ROOT = pathlib.Path(__file__).resolve().parents[1]
HIDDEN, LAYERS, VOCAB = 512, 8, 320
MESHES = {2: ({"dp": 2}, {"pp": 2}, {"tp": 2}, {"cp": 2}),
          4: ({"dp": 4}, {"dp": 2, "pp": 2}, {"dp": 2, "tp": 2}),
          8: ({"dp": 8}, {"dp": 4, "pp": 2}, {"dp": 2, "pp": 2, "tp": 2})}
GIB = float(1 << 30)


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder, self.runs = options, folder, 0
        self.environment = {**mpi_environment(), "OMP_NUM_THREADS": "1"}
        make_model(folder / "model", HIDDEN, LAYERS)
        draw = random.Random(0)
        for length in (128, 512, 2048):  # tokens of a sample; 64 Ki tokens in all
            rows = ([draw.randrange(1, VOCAB) for _ in range(length)] for _ in range(65536 // length))
            (folder / f"{length}.jsonl").write_text("".join(json.dumps({"input_ids": row, "labels": row}) + "\n" for row in rows))

    def settings(self, length, tokens, mesh, pack=2048):
        axes = [part for axis, ranks in mesh.items() for part in (f"--parallel.{axis}", str(ranks))]
        return ["--method", "sft", "--model.path", str(self.folder / "model"), "--data.path",
                str(self.folder / f"{length}.jsonl"), "--train.groups_per_step", str(tokens // length), "--pack.max_tokens", str(pack),
                "--data.max_length", "2048", *axes]

    def start(self, ranks, length, tokens, mesh, pack=2048):
        """A run, and where its metrics come."""
        self.runs += 1
        out = self.folder / f"run-{self.runs}"
        line = [str(self.options.bin / "fpdist_train"), *self.settings(length, tokens, mesh, pack), "--train.output_dir", str(out),
                "--train.max_steps", str(self.options.steps + 2)]
        if ranks > 1:
            line = [self.options.mpirun, "-np", str(ranks), *line]
        return subprocess.Popen(line, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True), out

    def seconds(self, started):
        process, out = started
        words = process.communicate()[0]
        if process.returncode:
            sys.exit(words)
        steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return statistics.median(step["seconds"] for step in steps if "seconds" in step and step["step"] > 2)

    def alone(self, length, pack):
        """Seconds of a step of 2,048 tokens of one rank while as many others as there are ranks do the same."""
        started = [self.start(1, length, 2048, {}, pack) for _ in range(self.options.ranks)]
        return statistics.mean(self.seconds(one) for one in started)

    def predicted(self, cluster, overhead, length, tokens, mesh, ranks, pack=2048):
        costs = (ROOT / "configs" / "costs" / "llama3-8b.yaml").read_text()  # of which --cluster takes a pack's overhead alone
        for field, value in (("overhead_rows", round(overhead)), ("layers", LAYERS)):
            costs = re.sub(rf"(?m)^{field}: \d+", f"{field}: {value}", costs)
        (self.folder / "costs.yaml").write_text(costs)
        (self.folder / "cluster.yaml").write_text("".join(f"{name}: {value:.6g}\n" for name, value in cluster.items()))
        (self.folder / "run.yaml").write_text("{}\n")
        line = [self.options.bin / "fpdist_plan", "--config", self.folder / "run.yaml", *self.settings(length, tokens, mesh, pack),
                "--costs", self.folder / "costs.yaml", "--cluster", self.folder / "cluster.yaml", "--world-sizes", str(ranks),
                "--complete", "--json", self.folder / "plan.json"]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(done.stdout)
        world = json.loads((self.folder / "plan.json").read_text())["cluster"]["worlds"][0]
        axes = {axis: mesh.get(axis, 1) for axis in ("dp", "pp", "cp", "tp")}
        of_mesh = [one for one in world["fitting"] if all(one[axis] == size for axis, size in axes.items())]
        found = next(one for one in of_mesh if one["schedule"] == "1f1b" and not one["recompute"] and one["max_tokens"] == pack)
        return found["step_seconds"], found["seconds"]["bubble"]


def links(options, environment):
    """Bytes a second of a large message that others send as well, and seconds of a small one."""
    line = [options.mpirun, "-np", str(options.ranks), options.bin / "fpdist_bench", "comm", "--device", "cpu", "--collectives",
            "send_receive", "--from", "1K", "--to", "4M"]
    done = subprocess.run(line, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("send_receive")]
    return 1e9 * float(rows[-1][4]), 1e-6 * float(rows[0][3])


COPY = """
import time, array, sys
big = bytearray(1 << 28); other = bytearray(1 << 28)
other[:] = big
start = time.monotonic()
for _ in range(8): other[:] = big
print(16 * (1 << 28) / (time.monotonic() - start))
"""


def memory(options):
    """Bytes a second, read and written, of a rank while all copy."""
    all_of_them = [subprocess.Popen([sys.executable, "-c", COPY], stdout=subprocess.PIPE, text=True) for _ in range(options.ranks)]
    return statistics.mean(float(one.communicate()[0]) for one in all_of_them)


def measured_cluster(bench):
    options = bench.options
    bandwidth, latency = links(options, bench.environment)
    cluster = {"gpus_per_node": options.ranks, "peak_flops": 1e12, "linear_flops": 1e11, "attention_forward_flops": 1e11,
               "attention_backward_flops": 1e11, "memory_bytes": 8 * GIB, "memory_reserve": GIB / 4, "memory_bandwidth": memory(options),
               "node_bandwidth": bandwidth, "node_latency": latency, "network_bandwidth": bandwidth, "network_latency": latency}
    short, many, long = (128, 2048), (128, 256), (2048, 2048)  # tokens of a sample, of a pack
    measured = {one: bench.alone(*one) for one in (short, many, long)}
    overhead = 64.0
    here = lambda one: bench.predicted(cluster, overhead, one[0], 2048, {}, 1, one[1])[0]
    for _ in range(12):  # each of the three nearly decides one of the steps
        cluster["linear_flops"] *= here(short) / measured[short]
        overhead = max(0.0, overhead + (measured[many] - here(many)) / measured[short] * 2048 / 8)
        for rate in ("attention_forward_flops", "attention_backward_flops"):
            cluster[rate] *= (here(long) / measured[long]) ** 2  # the smaller part of its step
    cluster["peak_flops"] = cluster["linear_flops"]
    fits = ", ".join(f"{length} a sample and {pack} a pack {measured[length, pack]:.3f} s ({here((length, pack)):.3f})"
                     for length, pack in measured)
    return cluster, overhead, f"one rank, 2,048 tokens (as the rates have it): {fits}; a pack's overhead is that of {overhead:.0f} rows"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", type=pathlib.Path)
    parser.add_argument("mpirun")
    parser.add_argument("--ranks", type=int, default=2, choices=sorted(MESHES))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--keep", default="", help="write the cluster file here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(options, pathlib.Path(name))
        cluster, overhead, fits = measured_cluster(bench)
        if options.keep:
            pathlib.Path(options.keep).write_text("".join(f"{name}: {value:.6g}\n" for name, value in cluster.items()))
        print("cluster: " + ", ".join(f"{name} {value:.3g}" for name, value in cluster.items()))
        print(fits)
        print("| ranks | mesh | step s, measured | predicted | of it bubble | predicted / measured | without the bubble |\n"
              "|---|---|---|---|---|---|---|")
        for mesh in MESHES[options.ranks]:
            tokens = 2048 * options.ranks
            took = bench.seconds(bench.start(options.ranks, 512, tokens, mesh))
            foreseen, bubble = bench.predicted(cluster, overhead, 512, tokens, mesh, options.ranks)
            print(f"| {options.ranks} | {' x '.join(f'{axis} {size}' for axis, size in mesh.items())} | {took:.3f} | {foreseen:.3f} | "
                  f"{bubble:.3f} | {foreseen / took:.2f} | {(foreseen - bubble) / took:.2f} |", flush=True)


if __name__ == "__main__":
    main()
