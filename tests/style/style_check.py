#!/usr/bin/env python3
"""House rules that a machine can check. Usage: style_check.py [ROOT]; prints every breach and exits 1 if there is one.

Rules, by the name that a breach carries: include, library, pragma, length, call, method, todo, unlisted, format, shell.
"""
import pathlib
import re
import shutil
import subprocess
import sys

TREES = ("include", "src", "kernels", "tests", "bench", "examples")
SUFFIXES = (".hpp", ".cpp", ".cu", ".cuh")
WARN_LINES, MOST_LINES = 400, 600

# Plan types: what rooms above the planning half know of it.
PLAN_TYPES = {"prefix", "plan", "data/sample.hpp"}
# Room -> rooms (or single headers) that it may include. A room always includes itself.
ROOMS = {
    "core": set(),
    "files": {"core"},
    "arch": {"core", "files"},
    "data": {"core", "files"},
    "prefix": {"core", "data"},
    "plan": {"core", "files", "arch", "data", "prefix"},
    "comm": {"core"},
    "kernels": {"core"},
    "ops": {"core", "kernels"},
    "parallel": {"core", "comm", "ops"} | PLAN_TYPES,
    "checkpoint": {"core", "files", "arch", "comm", "ops"},
    "model": {"core", "arch", "ops", "parallel"} | PLAN_TYPES,
    "loss": {"core", "ops"} | PLAN_TYPES,
    "optim": {"core", "comm", "ops"},
}
OPTIONS = {f"{room}/options.hpp" for room in (*ROOMS, "trainer")}
ROOMS["config"] = {"core", "files", "arch", "data", "prefix", "plan", "loss/spec.hpp", "optim/schedule.hpp"} | OPTIONS
ROOMS["trainer"] = set(ROOMS)
PLANNING = {"core", "files", "arch", "data", "prefix", "plan", "config"}
# A room's face towards other rooms of the house: seams that no user of the library needs.
FACES = {
    "arch/config_json.hpp",
    "checkpoint/gather.hpp",
    "comm/broadcast_text.hpp",
    "core/clock.hpp",
    "core/index.hpp",
    "core/words.hpp",
    "config/describe_plan.hpp",
    "core/key.hpp",
    "data/made/generate.hpp",
    "files/files.hpp",
    "files/strict_json.hpp",
    "loss/score_columns.hpp",
    "ops/partial_attention.hpp",
    "ops/partial_embedding.hpp",
    "ops/partial_logprob.hpp",
    "ops/segments.hpp",
    "parallel/zero/zero_reducer.hpp",
    "plan/costs/amount.hpp",
    "plan/costs/calibration.hpp",
    "plan/costs/costs_file.hpp",
    "plan/costs/stage_layers.hpp",
    "plan/costs/unit_cost.hpp",
    "plan/figures/baselines.hpp",
    "plan/figures/plan_figures.hpp",
    "plan/figures/step_volume.hpp",
    "plan/schedule/simulate.hpp",
    "plan/schedule/timeline.hpp",
}

# Libraries: (what an include starts with, where it may stand).
LIBRARIES = (
    (re.compile(r"mpi\.h|nccl"), ("src/comm/", "tests/support/", "tests/emulation/")),
    (re.compile(r"yaml-cpp/"), ("src/config/",)),
    (re.compile(r"boost/"), ("src/main/", "bench/")),
    (re.compile(r"nlohmann/|simdjson"), ("src/", "tests/", "kernels/", "bench/")),
)
TORCH = re.compile(r"(ATen|c10|torch)/")

# Calls: (pattern, what it is, where it may stand).
SPEAKERS = ("src/main/", "bench/", "tests/", "examples/")
CALLS = (
    (re.compile(r"\b(?:secure_)?(?:getenv|setenv|putenv|unsetenv)\s*\("), "reads or writes the environment", ("src/main/", "tests/")),
    (re.compile(r"(?<![\w.>])(?:std::|::)?(?:(?:exit|_exit|_Exit|quick_exit)\s*\(|(?:abort|terminate)\s*\(\s*\))"), "ends the process", SPEAKERS),
    (re.compile(r"\bstd::(?:cout|cerr|clog)\b|(?<![\w])(?:std::)?(?:f?printf|puts|fputs|putchar)\s*\("), "prints", SPEAKERS),
    (re.compile(r"\bstd::(?:basic_)?o?fstream\b|(?<![\w])(?:std::)?fopen\s*\(|\bO_(?:WRONLY|RDWR|CREAT)\b"), "writes a file", ("src/files/", "tests/")),
    (re.compile(r"\b(?:MPI_[A-Z]\w*|nccl[A-Z]\w*)\b"), "talks to MPI or NCCL", ("src/comm/", "tests/support/", "tests/emulation/", "tests/comm/")),
)
# Who may ask which method a job trains: the rest asks a loss what it needs. Programs choose one.
METHOD = re.compile(r"\bMethod::k[A-Z]\w*")
METHOD_PLACES = ("include/fpdist/core/types.hpp", *(f"{tree}/{room}/" for tree in ("src", "include/fpdist") for room in ("data", "loss", "config")))
# A declaration of that name ends nothing.
DECLARED = re.compile(r"(?:\bvoid|\]\])\s+(?:\w+::)*abort\s*\(")
MARKERS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
STRING_OR_COMMENT = re.compile(r'R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'|//[^\n]*|/\*(?:.|\n)*?\*/')


def code_of(text):
    """The text without strings and comments, lines kept."""
    return STRING_OR_COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def room_of(path):
    parts = path.split("/")
    if parts[0] == "kernels":
        return "kernels"
    room = {"include": parts[2:3], "src": parts[1:2]}.get(parts[0])
    return room[0] if room and len(parts) > (3 if parts[0] == "include" else 2) else None


def target_of(include):
    """(room, room/header) of a project include, or None for a foreign one and one beside the file."""
    for prefix in ("fpdist/", "src/"):
        if include.startswith(prefix):
            rest = include[len(prefix):]
            return (rest.split("/")[0], rest) if "/" in rest else ("fpdist.hpp", rest)
    return ("kernels", include) if include.startswith("kernels/") else None


def check_includes(path, lines):
    room = room_of(path)
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        include, at = match.group(1), f"{path}:{number}"
        target = target_of(include)
        if room in ROOMS and target and target[0] != room and not {*target} & ROOMS[room]:
            yield f"{at}: include: room {room} may not include {include}"
        if room in ROOMS and include.startswith("src/") and target[0] != room and target[1] not in FACES:
            yield f"{at}: include: {include} is private to room {target[0]}"
        if path.startswith("include/") and include.startswith(("src/", "kernels/")):
            yield f"{at}: include: a public header may not include the private {include}"
        if room in PLANNING and TORCH.match(include):
            yield f"{at}: library: the planning half does without torch, not {include}"
        for pattern, places in LIBRARIES:
            if pattern.match(include) and not path.startswith(places):
                yield f"{at}: library: {include} may stand in {', '.join(places)} only"


def check_file(path, text):
    lines = text.splitlines()
    yield from check_includes(path, lines)
    if path.endswith((".hpp", ".cuh")) and path.startswith(TREES) and "#pragma once" not in lines:
        yield f"{path}:1: pragma: a header without #pragma once"
    if len(lines) > MOST_LINES:
        yield f"{path}:{len(lines)}: length: {len(lines)} lines; {MOST_LINES} is the most"
    for number, line in enumerate(code_of(text).splitlines(), 1):
        for pattern, what, places in CALLS:
            match = pattern.search(line)
            if match and not path.startswith(places) and not DECLARED.search(line):
                yield f"{path}:{number}: call: '{match.group().strip()}' {what}; only {', '.join(places)} may"
        match = METHOD.search(line)
        if match and not path.startswith((*METHOD_PLACES, *SPEAKERS)):
            yield f"{path}:{number}: method: {match.group()}: ask the loss what it needs (loss/spec.hpp); only data, loss and config may"
    for number, line in enumerate(lines, 1):
        if MARKERS.search(line):
            yield f"{path}:{number}: todo: finish it or file an issue"


def check_listed(root, paths):
    for path in paths:
        parent = path.rsplit("/", 1)[0]
        if not path.startswith(("src/", "kernels/", "tests/", "bench/", "examples/")) or not path.endswith((".cpp", ".cu")):
            continue
        name = path.rsplit("/", 1)[1]
        # The nearest CMakeLists.txt at or above the file, naming it relative to itself; support code is named where it is used.
        folder, listed = parent, False
        while folder and not listed:
            lists = root / folder / "CMakeLists.txt"
            if lists.exists():
                listed = bool(re.search(rf"(?<![\w]){re.escape(path[len(folder) + 1:])}(?![\w])", lists.read_text()))
            folder = folder.rsplit("/", 1)[0] if "/" in folder else ""
        if not listed and path.startswith("tests/support/"):
            listed = any(f"support/{name}" in lists.read_text() for lists in root.glob("**/CMakeLists.txt"))
        if not listed:
            yield f"{path}:1: unlisted: no CMakeLists.txt names it"


def check_format(root, paths):
    tool = shutil.which("clang-format-14") or shutil.which("clang-format")
    if not tool:
        print("SKIPPED: format: clang-format is not installed")
        return
    if not paths:
        return
    done = subprocess.run([tool, "--dry-run", "-Werror", "--ferror-limit=1", "--style=file", *paths], cwd=root,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    for match in re.finditer(r"^(\S+?):(\d+):\d+: error: (.*)$", done.stderr, re.M):
        yield f"{match.group(1)}:{match.group(2)}: format: run clang-format -i {match.group(1)}"
    if done.returncode and "error:" not in done.stderr:
        yield f".clang-format:1: format: {done.stderr.strip()[:200]}"


def check_shell(root):
    shells = ("launch/*.sh", "launch/*.sbatch", "tests/**/*.sh", ".ci/*")
    scripts = sorted(str(path.relative_to(root)) for glob in shells for path in root.glob(glob) if path.is_file())
    tool = shutil.which("shellcheck")
    if not tool:
        print("SKIPPED: shell: shellcheck is not installed")
    elif scripts:
        done = subprocess.run([tool, "-x", "-f", "gcc", *scripts], cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        for line in done.stdout.splitlines():
            yield re.sub(r"^(\S+:\d+):\d+: ", r"\1: shell: ", line)


def sources(root):
    for tree in TREES:
        for path in sorted((root / tree).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                yield path.relative_to(root).as_posix()


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    paths, breaches, long_files = list(sources(root)), [], []
    for path in paths:
        text = (root / path).read_text(encoding="utf-8")
        breaches += check_file(path, text)
        count = len(text.splitlines())
        if WARN_LINES < count <= MOST_LINES:
            long_files.append(f"{path}: {count} lines")
    breaches += check_listed(root, paths)
    breaches += check_format(root, paths)
    breaches += check_shell(root)
    for line in long_files:
        print(f"warning: long: {line}; ask why")
    print("\n".join(breaches) or f"{len(paths)} files keep the rules")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
