#!/usr/bin/env python3
"""Whether two builds compute, write and say the same: for changes that must change nothing (moves, renames, new seams).

    bench/same_bits.py record build/release/bin before/     # with the old build
    bench/same_bits.py record build/release/bin after/      # with the new one
    bench/same_bits.py compare before/ after/               # exit code 1 where they differ

Runs training with every method over small meshes, the planner over schedules, --plan, --help and a list of mistakes. Kept
of each: exit code, what was printed, every file that was written (weights by hash), metrics without what a clock says.
"""
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
METHODS = ("sft", "dpo", "reward", "grpo")
MESHES = {
    "one": (1, []),
    "dp2": (2, ["--parallel.dp", "2"]),
    "pp2": (2, ["--parallel.pp", "2", "--pack.max_tokens", "600"]),
    "interleaved": (2, ["--parallel.pp", "2", "--parallel.schedule", "interleaved", "--parallel.virtual_stages", "2",
                        "--pack.max_tokens", "600"]),
    "zero_bubble": (2, ["--parallel.pp", "2", "--parallel.schedule", "zb-h1", "--pack.slices", "2"]),
    "cp2": (2, ["--parallel.cp", "2", "--parallel.cp_chunk", "64"]),
    "tp2": (2, ["--parallel.tp", "2"]),
    "pp2cp2": (4, ["--parallel.pp", "2", "--parallel.cp", "2", "--pack.slices", "2"]),
}
MISTAKES = {
    "no_file": ["missing.yaml"],
    "unknown_key": ["--method", "dpo", "--train.max_stepz", "3"],
    "bad_value": ["--method", "dpo", "--train.max_steps", "1.5"],
    "ranges": ["--model.preset", "tiny", "--data.path", "DATA/dpo.jsonl", "--train.max_steps", "0", "--optim.adam_beta1", "1",
               "--pack.max_tokens", "0"],
    "no_model": ["--method", "dpo", "--data.path", "DATA/dpo.jsonl"],
    "no_data": ["--method", "dpo", "--model.preset", "tiny", "--data.path", "DATA/none.jsonl"],
    "wrong_rows": ["--method", "grpo", "--model.preset", "tiny", "--data.path", "DATA/dpo.jsonl"],
    "no_directory": ["--method", "dpo", "--model.path", "DATA/none", "--data.path", "DATA/dpo.jsonl"],
    "mesh": ["--method", "dpo", "--model.preset", "tiny", "--data.path", "DATA/dpo.jsonl", "--parallel.tp", "3"],
    "too_small": ["--method", "dpo", "--model.preset", "tiny", "--data.path", "DATA/dpo.jsonl", "--pack.max_tokens", "16"],
    "cuda": ["--method", "dpo", "--model.preset", "tiny", "--data.path", "DATA/dpo.jsonl", "--model.device", "cuda"],
}
CLOCK = re.compile(r"seconds|tokens_per_second|bubble|imbalance|exposed|mfu|memory/")


def make_data(folder):
    folder.mkdir(parents=True)
    draw = random.Random(7)
    word = lambda least, most: "".join(draw.choice("abcdefgh ") for _ in range(draw.randint(least, most)))
    rows = {method: [] for method in METHODS}
    system = word(60, 60)
    for _ in range(24):
        prompt = system + word(10, 40)
        answers = [word(4, 50) for _ in range(4)]
        rows["sft"].append({"prompt": prompt, "completion": answers[0]})
        rows["dpo"].append({"prompt": prompt, "chosen": answers[0], "rejected": answers[1]})
        rows["grpo"].append({"prompt": prompt, "completions": answers, "rewards": [draw.random() for _ in answers]})
    rows["reward"] = rows["dpo"]
    for method, lines in rows.items():
        (folder / f"{method}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lengths = [{"prefix": draw.randint(50, 900), "completions": [draw.randint(20, 600) for _ in range(4)]} for _ in range(60)]
    (folder / "lengths.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lengths))


def without_clock(text):
    text = re.sub(r"\d+(\.\d+)? tokens/s", "N tokens/s", text)
    text = re.sub(r"eta \d+:\d+", "eta", text)
    text = re.sub(r'"(seconds|plan_ms)": [-+.e\d]+', r'"\1": TIME', text)
    text = re.sub(r"\d+(\.\d+)?(e-?\d+)? ?(seconds|ms|us|s)\b", "TIME", text)
    text = re.sub(r"^ *\d+\.\d+ (info|warning|error) ", r"\1 ", text, flags=re.M)
    return re.sub(r"\[[^]\s]*:\d+\]|localhost|" + re.escape(os.uname().nodename), "HOST", text)


def file_record(path):
    if path.name == "metrics.jsonl":
        steps = [json.loads(line) for line in path.read_text().splitlines()]
        return [{key: value for key, value in step.items() if not CLOCK.search(key)} for step in steps]
    if path.suffix in (".log", ".yaml", ".json", ".txt", ".html"):
        return without_clock(path.read_text()).splitlines()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(command, work, ranks=1):
    launcher = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(ranks)] if ranks > 1 else []
    done = subprocess.run([*launcher, *command], cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PMIX_MCA_gds": "hash"})
    record = {"exit": done.returncode, "stdout": without_clock(done.stdout).splitlines(),
              "stderr": sorted(without_clock(done.stderr).splitlines())}
    for path in sorted((work / "out").rglob("*")) if (work / "out").exists() else []:
        if path.is_file():
            record[path.relative_to(work).as_posix()] = file_record(path)
    shutil.rmtree(work / "out", ignore_errors=True)
    return record


def cases(programs):
    """name -> (command, ranks)"""
    train = str(programs / "fpdist_train")
    base = ["--model.preset", "tiny", "--train.groups_per_step", "6", "--train.max_steps", "3", "--train.output_dir", "out",
            "--optim.learning_rate", "1e-3", "--data.max_length", "256"]
    for method in METHODS:
        for mesh, (ranks, options) in MESHES.items():
            if method in ("sft", "reward") and mesh in ("interleaved", "zero_bubble"):
                continue
            yield f"train/{method}/{mesh}", [train, "--method", method, "--data.path", f"DATA/{method}.jsonl", *base, *options], ranks
    dpo = [train, "--method", "dpo", "--data.path", "DATA/dpo.jsonl", *base]
    yield "train/bfloat16", [*dpo, "--model.dtype", "bfloat16", "--model.gradient_checkpointing", "true"], 1
    yield "train/float64_verified", [*dpo, "--model.dtype", "float64", "--pack.verify_steps", "1"], 1
    yield "train/precomputed", [*dpo, "--loss.precompute_ref_log_probs", "true"], 2
    yield "train/profiled_and_saved", [*dpo, "--train.save_steps", "2", "--train.save_only_model", "true", "--train.profile_steps", "0"], 2
    yield "plan/dpo", [*dpo, "--plan", "--parallel.dp", "2", "--parallel.pp", "2", "--parallel.cp", "2", "--parallel.tp", "2"], 1
    yield "plan/sft", [train, "--method", "sft", "--data.path", "DATA/sft.jsonl", *base, "--plan"], 1
    yield "help", [train, "--help"], 1
    yield "print_config", [*dpo, "--print-config"], 1
    planner = str(programs / "fpdist_plan")
    for schedule in ("1f1b", "interleaved", "zb-h1"):
        yield f"planner/{schedule}", [planner, "--lengths", "DATA/lengths.jsonl", "--parallel.pp", "4", "--parallel.dp", "2",
                                      "--parallel.schedule", schedule, "--compare", "--world-sizes", "8,16", "--json", "out/plan.json",
                                      "--html", "out/plan.html", "--trace", "out/trace.json"], 1
    yield "planner/config", [planner, *dpo[1:], "--config", "CONFIG", "--parallel.pp", "2", "--parallel.dp", "2", "--parallel.cp", "2",
                             "--steps", "3", "--json", "out/plan.json"], 1
    yield "planner/help", [planner, "--help"], 1
    for name, arguments in MISTAKES.items():
        yield f"mistakes/{name}", [train, *arguments], 1


def record(programs, out):
    programs, out = programs.resolve(), out.resolve()
    work = out / "work"
    make_data(work / "DATA")
    (work / "CONFIG").write_text("method: dpo\n")
    results = {}
    for name, command, ranks in cases(programs):
        (work / "out").mkdir() if name.startswith("planner") else None
        results[name] = run(command, work, ranks)
        results[name]["stderr"] = [line.replace(str(programs), "BIN") for line in results[name]["stderr"]]
        print(name, results[name]["exit"], flush=True)
    shutil.rmtree(work)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def compare(before, after):
    a, b = (json.loads((folder / "results.json").read_text()) for folder in (before, after))
    differ = 0
    for name in sorted(a.keys() | b.keys()):
        for key in sorted(a.get(name, {}).keys() | b.get(name, {}).keys()):
            old, new = a.get(name, {}).get(key), b.get(name, {}).get(key)
            if old == new:
                continue
            differ += 1
            print(f"{name}: {key} differs")
            if isinstance(old, list) and isinstance(new, list):
                gone, came = [x for x in old if x not in new], [x for x in new if x not in old]
                print("".join(f"  - {str(x)[:240]}\n" for x in gone[:6]) + "".join(f"  + {str(x)[:240]}\n" for x in came[:6]), end="")
            else:
                print(f"  - {str(old)[:240]}\n  + {str(new)[:240]}")
    print(f"{len(a)} cases, {differ} differences")
    return 1 if differ else 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("record", "compare"):
        sys.exit(__doc__)
    first, second = map(pathlib.Path, sys.argv[2:])
    sys.exit(record(first, second) if sys.argv[1] == "record" else compare(first, second))
