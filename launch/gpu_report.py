#!/usr/bin/env python3
"""What gpu_check.sh found, as one JSON file and one table: gpu_report.py WORK_DIR OUT_DIR NAME.

WORK_DIR holds parts.tsv (part, state, seconds, exit code), NAME.log of every part, the benches' jsonl files and, when the
Python peers ran, peers.json. Writes OUT_DIR/NAME.json and NAME.md and prints the table.
"""
import json
import pathlib
import platform
import subprocess
import sys
import time


def parts_of(work):
    keys = ("part", "state", "seconds", "code")
    rows = [dict(zip(keys, line.split("\t"))) for line in (work / "parts.tsv").read_text().splitlines()]
    for row in rows:
        log = (work / f"{row['part']}.log").read_text(errors="replace").splitlines()
        row.update(seconds=float(row["seconds"]), code=int(row["code"]), last_line=log[-1].strip() if log else "")
        if row["state"] not in ("passed", "skipped"):
            row["log"] = log[-200:]
    return rows


def bench_lines(work):
    lines = []
    for file in filter(pathlib.Path.exists, (work / f"{bench}.jsonl" for bench in ("gemm", "pointwise", "attention", "decode", "step", "comm"))):
        lines += [json.loads(line) for line in file.read_text().splitlines() if line]
    return lines


def peer_results(work):
    file = work / "peers.json"
    results = json.loads(file.read_text())["results"] if file.exists() else []
    return [result for result in results if result.get("kind") == "time" and "error" not in result]


def first_output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def table(title, columns, rows):
    """Markdown; columns: (heading, function of a row)."""
    if not rows:
        return []
    cell = lambda value: "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
    return [f"\n## {title}", "| " + " | ".join(heading for heading, _ in columns) + " |", "|---" * len(columns) + "|",
            *("| " + " | ".join(cell(value(row)) for _, value in columns) + " |" for row in rows)]


def by_key(*keys):
    return [(key, lambda row, key=key: row.get(key)) for key in keys]


def report(found):
    of = lambda bench: [line for line in found["bench"] if line.get("bench") == bench]
    peer_ms = lambda r: r.get("ms") or r.get("total_ms") or (r.get("fwd_ms") or 0.0) + (r.get("bwd_ms") or 0.0)
    lines = [f"# fpdist on {found['machine']['gpus'] or 'the CPU'}, {found['date']}"]
    lines += table("Parts", by_key("part", "state", "seconds", "last_line"), found["parts"])
    lines += table("Linear layers against ATen's GEMM",
                   by_key("product", "rows", "in", "out", "dtype", "ours_ms", "aten_ms", "tflops", "ratio"), of("gemm"))
    lines += table("Pointwise kernels against ATen's operations",
                   by_key("kernel", "rows", "dtype", "ours_ms", "aten_ms", "gb_per_second", "ratio", "difference"), of("pointwise"))
    lines += table("Attention, ours against the levels' calls",
                   by_key("sm", "shape", "heads", "pass", "ours_ms", "levels_ms", "tflops", "levels_tflops", "ratio", "difference",
                          "same_bits"), of("attention"))
    lines += table("Attention of a step that decodes, against the tree's bytes at the rate of a copy",
                   by_key("shape", "heads", "dtype", "queries", "keys", "plan_us", "ours_ms", "tiles_ms", "ratio", "bound_ms", "of_bound",
                          "copy_gb_s"), of("decode"))
    step = [dict(line, arm=f"fpdist {arm}", cell=f"P{line['prompt']} R{line['completion']} G{line['group']}",
                 ms=line[f"{arm}_seconds"] * 1e3, shown=line["speedup"] if arm == "shared" else None,
                 limit=line["bound"] if arm == "shared" else None) for line in of("step") for arm in ("shared", "unshared")]
    step += [dict(arm=f"peer {r.get('arm')}", cell=r.get("shape"), layers=r.get("layers"), ms=peer_ms(r),
                  shown=r.get("speedup"), limit=r.get("bound_no_head")) for r in found["peers"] if r.get("part") == "layer"]
    lines += table("Forward and backward of a model", [("arm", lambda r: r["arm"]), ("cell", lambda r: r["cell"]),
                   ("layers", lambda r: r.get("layers")), ("ms", lambda r: r["ms"]), ("speedup", lambda r: r["shown"]),
                   ("bound", lambda r: r["limit"])], step)
    lines += table("Peers' kernels", [*by_key("part", "arm", "shape"), ("ms", peer_ms), *by_key("speedup")],
                   [r for r in found["peers"] if r.get("part") != "layer"])
    lines += table("Collectives", by_key("collective", "np", "size", "time_us", "algbw", "busbw", "wrong"), of("comm"))
    return "\n".join(lines) + "\n"


def main():
    work, out, name = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    gpus = first_output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    if "emulated" in name:
        gpus = "an emulated GPU (nothing here is a measurement)"
    found = {"date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
             "machine": {"gpus": gpus.replace("\n", "; "), "processor": platform.processor() or platform.machine(),
                         "kernel": platform.release()},
             "commit": first_output("git", "-C", str(pathlib.Path(__file__).parent), "rev-parse", "HEAD"),
             "parts": parts_of(work), "bench": bench_lines(work), "peers": peer_results(work)}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    text = report(found)
    (out / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
