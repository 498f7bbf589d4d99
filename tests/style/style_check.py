#!/usr/bin/env python3
"""House rules that a machine can check. Usage: style_check.py [ROOT]; prints every breach and exits 1 if there is one.

Rules, by the name that a breach carries: include, library, pragma, length, call, method, todo, unlisted, format, shell, and of the
whole tree: function (over 60 lines), spread (a class in more than two sources), stem (a source's begins with its header's),
twice (a type name stands once in the project), circle (folders include in a circle).
"""
import pathlib
import re
import shutil
import subprocess
import sys

TREES = ("include", "src", "kernels", "tests", "bench", "examples")
SUFFIXES = (".hpp", ".cpp", ".cu", ".cuh")
WARN_LINES, MOST_LINES, MOST_FUNCTION_LINES, MOST_SOURCES = 400, 600, 60, 2

# Plan types: what rooms above the planning half know of it.
PLAN_TYPES = {"prefix", "plan", "data/sample.hpp"}
# Room -> rooms (or single headers) that it may include. A room always includes itself.
ROOMS = {
    "core": set(),
    "files": {"core"},
    "arch": {"core", "files"},
    "data": {"core", "files"},
    "rewards": {"core", "files", "data/prompts.hpp", "data/tokenizer.hpp"},
    "prefix": {"core", "data"},
    "plan": {"core", "files", "arch", "data", "prefix"},
    "comm": {"core"},
    "kernels": {"core"},
    "ops": {"core", "kernels"},
    "parallel": {"core", "comm", "ops"} | PLAN_TYPES,
    "checkpoint": {"core", "files", "arch", "comm", "ops"},
    "model": {"core", "arch", "ops", "parallel"} | PLAN_TYPES,
    "generate": {"core", "files", "arch", "comm", "ops", "parallel", "model"} | PLAN_TYPES,
    "loss": {"core", "ops"} | PLAN_TYPES,
    "optim": {"core", "comm", "ops"},
}
OPTIONS = {f"{room}/options.hpp" for room in (*ROOMS, "trainer")}
ROOMS["config"] = {"core", "files", "arch", "data", "prefix", "plan", "loss/spec.hpp", "optim/peak_rates.hpp", "optim/schedule.hpp", "generate/asked.hpp", "generate/kv_profile.hpp", "rewards/rewards.hpp"} | OPTIONS
ROOMS["trainer"] = set(ROOMS)
PLANNING = {"core", "files", "arch", "data", "rewards", "prefix", "plan", "config"}
# A room's face towards other rooms of the house: seams that no user of the library needs.
FACES = {
    "config/computed_groups.hpp",
    "data/virtual_tokens.hpp",
    "arch/adapter_json.hpp",
    "arch/config_json.hpp",
    "arch/end_tokens.hpp",
    "checkpoint/companions.hpp",
    "checkpoint/export_files.hpp",
    "checkpoint/gather.hpp",
    "checkpoint/merge_adapter.hpp",
    "checkpoint/nf4_tensors.hpp",
    "checkpoint/prefix_file.hpp",
    "checkpoint/same_weights.hpp",
    "checkpoint/state/convert.hpp",
    "checkpoint/state/training_state.hpp",
    "comm/agreement.hpp",
    "comm/broadcast_text.hpp",
    "comm/gather_parts.hpp",
    "comm/host/farewell.hpp",
    "comm/host/mpi_library.hpp",
    "core/builds.hpp",
    "core/checksum.hpp",
    "core/clock.hpp",
    "core/edit_distance.hpp",
    "core/index.hpp",
    "core/integers.hpp",
    "core/mix.hpp",
    "core/names.hpp",
    "core/version.hpp",
    "core/words.hpp",
    "config/check_data.hpp",
    "config/describe_plan.hpp",
    "config/inputs.hpp",
    "config/hybrids.hpp",
    "config/planned_rollouts.hpp",
    "config/read_data.hpp",
    "config/remarks.hpp",
    "config/rollout_inputs.hpp",
    "config/run_length.hpp",
    "config/stop_tokens.hpp",
    "core/key.hpp",
    "data/fields.hpp",
    "data/made/generate.hpp",
    "data/rows/data_files.hpp",
    "data/rows/dump_rows.hpp",
    "data/source/cached_dataset.hpp",
    "data/source/split.hpp",
    "files/files.hpp",
    "files/folders.hpp",
    "files/inputs.hpp",
    "files/lock_file.hpp",
    "files/mapped_file.hpp",
    "files/process.hpp",
    "files/strict_json.hpp",
    "generate/asked.hpp",
    "generate/generate_part.hpp",
    "generate/kv_profile.hpp",
    "generate/pass.hpp",
    "model/layerwise_keys.hpp",
    "model/sparse_rows.hpp",
    "loss/score_columns.hpp",
    "ops/batch_invariant.hpp",
    "ops/decoding.hpp",
    "ops/partial_kl.hpp",
    "ops/flex_prefill.hpp",
    "ops/main_grad.hpp",
    "ops/mean_logits.hpp",
    "ops/attention_term.hpp",
    "ops/partial_attention.hpp",
    "ops/partial_embedding.hpp",
    "ops/partial_logprob.hpp",
    "ops/segments.hpp",
    "optim/adamw.hpp",
    "optim/clip.hpp",
    "optim/peak_rates.hpp",
    "optim/schedule.hpp",
    "parallel/context/context_attention.hpp",
    "parallel/pipeline/executor.hpp",
    "parallel/tensor/tensor_parallel.hpp",
    "parallel/zero/zero_reducer.hpp",
    "plan/step_tree.hpp",
    "plan/plan_words.hpp",
    "plan/context/context_plan.hpp",
    "plan/costs/amount.hpp",
    "plan/costs/calibration.hpp",
    "plan/costs/costs_file.hpp",
    "plan/costs/stage_layers.hpp",
    "plan/costs/unit_cost.hpp",
    "plan/figures/baselines.hpp",
    "plan/fits.hpp",
    "plan/figures/plan_figures.hpp",
    "plan/pack/pipeline_plan.hpp",
    "plan/figures/step_volume.hpp",
    "plan/schedule/simulate.hpp",
    "plan/schedule/timeline.hpp",
    "prefix/forest.hpp",
    "prefix/row_keys.hpp",
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
METHOD_PLACES = ("include/fpdist/core/method.hpp", *(f"{tree}/{room}/" for tree in ("src", "include/fpdist") for room in ("data", "loss", "config")))
# A declaration of that name ends nothing.
DECLARED = re.compile(r"(?:\bvoid|\]\])\s+(?:\w+::)*abort\s*\(")
# What opens a brace at the margin and is no function.
NO_FUNCTION = re.compile(r"^\s*(?:namespace|class|struct|union|enum|extern|template|using|typedef|public|private|if|for|while|switch|do|else|try)\b|[=,(]\s*\{$|\breturn\b|^\s*\{$|^ *constexpr std|^const")
# A private implementation and a room's options are called so everywhere.
TWICE_ALLOWED = {"Impl", "Options"}
# Files that are reached through a table alone and declare nothing; operators, which users find in one header.
REGISTERED = ("src/loss/", "src/arch/families/", "src/ops/")
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


def functions_of(code):
    """(line, name, lines) of every function in formatted code: a line of indent 0 or 2 that opens a brace, until it closes."""
    lines = code.splitlines()
    for number, line in enumerate(lines):
        match = re.match(r"( {0,2})(?! )\S.* \{$", line)
        if not match or NO_FUNCTION.search(line):
            continue
        head = line
        for above in range(number - 1, max(-1, number - 12), -1):  # a signature of several lines
            if head.count("(") >= head.count(")") and "(" in head:
                break
            head = lines[above] + " " + head
        name = re.search(r"([\w:~]+(?: ?[=!<>+\-*/&|()\[\]]{1,3})?)\(", head)
        end = next((at for at in range(number + 1, len(lines)) if re.match(match.group(1) + r"\}", lines[at])), None)
        if name and end:
            yield number + 1, name.group(1), end - number + 1


def check_functions(texts):
    for path, text in texts.items():
        for line, name, count in functions_of(code_of(text)):
            if count > MOST_FUNCTION_LINES:
                yield f"{path}:{line}: function: {name} has {count} lines; {MOST_FUNCTION_LINES} is the most"


def check_spread(texts):
    places = {}
    for path, text in texts.items():
        if not path.startswith(("src/", "kernels/")) or not path.endswith((".cpp", ".cu")):
            continue
        code = code_of(text)
        space = "::".join(re.findall(r"^namespace ([\w:]+)", code, re.M))
        for match in re.finditer(r"^(?:[\w:<>,&* \[\]]+[ &*])?((?:[A-Z]\w*::)+)~?\w+\(", code, re.M):
            places.setdefault((space, match.group(1)[:-2]), set()).add(path)
    for (space, name), files in sorted(places.items()):
        if len(files) > MOST_SOURCES:
            yield f"{sorted(files)[0]}:1: spread: {space}::{name} stands in {len(files)} sources: {', '.join(sorted(files))}"


def headers_by_folder(paths):
    """folder of a room -> stems of its headers; a public header counts for every folder of its room."""
    stems = {}
    for path in paths:
        if path.endswith((".hpp", ".cuh")):
            folder, stem = path.rsplit("/", 1)[0], path.rsplit("/", 1)[1].rsplit(".", 1)[0]
            stems.setdefault("src/" + folder[len("include/fpdist/"):] if folder.startswith("include/fpdist/") else folder, set()).add(stem)
    return stems


def check_stems(paths):
    stems = headers_by_folder(paths)
    for path in paths:
        if not path.startswith(("src/", "kernels/")) or not path.endswith((".cpp", ".cu")) or path.startswith("src/main/"):
            continue
        folder, stem = path.rsplit("/", 1)[0], path.rsplit("/", 1)[1].rsplit(".", 1)[0]
        known, at = set(), folder
        while "/" in at:
            known |= stems.get(at, set())
            at = at.rsplit("/", 1)[0]
        if path.startswith(REGISTERED) or any(stem == header or stem.startswith(header + "_") for header in known):
            continue
        yield f"{path}:1: stem: no header of its folder or above begins its name"


def check_twice(texts):
    places = {}
    for path, text in texts.items():
        if not path.startswith(("include/", "src/", "kernels/")):
            continue
        for match in re.finditer(r"^ {0,2}(?:class|struct|enum class|union) (\w+)(?: final)?(?: : [^;{]*)?(?: \{|$)", code_of(text), re.M):
            places.setdefault(match.group(1), []).append(path)
    for name, files in sorted(places.items()):
        if len(files) > 1 and name not in TWICE_ALLOWED:
            yield f"{files[1]}:1: twice: the type name {name} stands in {', '.join(sorted(set(files)))}"


def node_of(path, sources):
    """The folder that a header or source belongs to: a room or one of its folders; a public header goes with its source."""
    parts = path.split("/")
    if parts[0] == "include":
        stem = parts[-1].rsplit(".", 1)[0]
        homes = [source for source in sources if source.startswith(f"src/{parts[2]}/") and
                 source.rsplit("/", 1)[1].rsplit(".", 1)[0] == stem]
        return node_of(homes[0], sources) if homes else parts[2]
    room = parts[1:] if parts[0] == "src" else parts
    return "/".join(room[:2]) if len(room) > 2 else room[0]


def check_circles(texts):
    sources = [path for path in texts if path.endswith((".cpp", ".cu"))]
    graph, why = {}, {}
    for path, text in texts.items():
        if not path.startswith(("include/fpdist/", "src/", "kernels/")) or path.startswith("src/main/"):
            continue
        here = node_of(path, sources)
        for include in re.findall(r'^#include "([^"]+)"', text, re.M):
            if include.endswith("/options.hpp"):  # plain structs that stand below everything
                continue
            target = f"include/{include}" if include.startswith("fpdist/") else include
            there = node_of(target, sources) if target in texts else None
            # A room's own files open its folders and are used by them.
            if there and there != here and here.split("/")[0] != there and there.split("/")[0] != here:
                graph.setdefault(here, set()).add(there)
                why.setdefault((here, there), path)
    state, stack = {}, []

    def visit(node):
        state[node] = 1
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if state.get(other) == 1:
                circle = stack[stack.index(other):] + [other]
                yield f"{why[(node, other)]}:1: circle: {' -> '.join(circle)}"
            elif other not in state:
                yield from visit(other)
        stack.pop()
        state[node] = 2

    for node in sorted(graph):
        if node not in state:
            yield from visit(node)


def check_tree(texts):
    yield from check_functions(texts)
    yield from check_spread(texts)
    yield from check_stems(list(texts))
    yield from check_twice(texts)
    yield from check_circles(texts)


def check_listed(root, paths):
    for path in paths:
        parent = path.rsplit("/", 1)[0]
        if not path.startswith(("src/", "kernels/", "tests/", "bench/", "examples/")) or not path.endswith((".cpp", ".cu")):
            continue
        # The nearest CMakeLists.txt at or above the file, naming it relative to itself; support code is named where it is used.
        folder, listed = parent, False
        while folder and not listed:
            lists = root / folder / "CMakeLists.txt"
            if lists.exists():
                listed = bool(re.search(rf"(?<![\w]){re.escape(path[len(folder) + 1:])}(?![\w])", lists.read_text()))
            folder = folder.rsplit("/", 1)[0] if "/" in folder else ""
        if not listed and path.startswith("tests/support/"):
            listed = any(path in lists.read_text() for lists in root.glob("tests/**/CMakeLists.txt"))
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
    paths, breaches, long_files, texts = list(sources(root)), [], [], {}
    for path in paths:
        texts[path] = text = (root / path).read_text(encoding="utf-8")
        breaches += check_file(path, text)
        count = len(text.splitlines())
        if WARN_LINES < count <= MOST_LINES:
            long_files.append(f"{path}: {count} lines")
    breaches += check_tree(texts)
    breaches += check_listed(root, paths)
    breaches += check_format(root, paths)
    breaches += check_shell(root)
    for line in long_files:
        print(f"warning: long: {line}; ask why")
    print("\n".join(breaches) or f"{len(paths)} files keep the rules")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
