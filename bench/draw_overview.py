#!/usr/bin/env python3
"""Draws what fpdist does from a real plan: the tree of a group, a pack with who sees whom in it, and the packs in a pipeline.

  python3 bench/draw_overview.py [--build build/release] [--out bench/results/overview.svg] [--check]

Runs fpdist_plan on the groups below, 3 stages, and draws its packs and its simulated timeline. The picture in README.md is
what it writes; a test holds the two against each other (--check).
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

# (prompt tokens, tokens of each completion)
GROUPS = [(420, [90, 140]), (300, [60, 80, 110, 70]), (360, [120, 100]), (260, [180, 150, 90]), (180, [120, 60, 140, 80]),
          (520, [70, 90]), (340, [60, 130, 100]), (240, [160, 90]), (200, [90, 110, 70]), (450, [100, 60]), (280, [60, 60, 90, 120]),
          (380, [80, 120])]
COLOURS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5"]
INK, GREY, FAINT = "#1b1f24", "#656d76", "#eaeef2"
WIDTH, HEIGHT = 960, 572


def plan(build):
    with tempfile.TemporaryDirectory() as folder:
        lengths, plan_file, trace = (pathlib.Path(folder) / name for name in ("lengths.jsonl", "plan.json", "trace.json"))
        lengths.write_text("".join(json.dumps(dict(prefix=p, completions=c)) + "\n" for p, c in GROUPS))
        subprocess.run([f"{build}/bin/fpdist_plan", "--lengths", lengths, "--parallel.pp", "3", "--parallel.schedule", "zb-h1",
                        "--pack.max_tokens", "1200", "--method", "grpo", "--json", plan_file, "--trace", trace],
                       check=True, capture_output=True)
        return json.loads(plan_file.read_text()), json.loads(trace.read_text())


class Drawing:
    def __init__(self, width=WIDTH, height=HEIGHT):
        self.parts, self.width, self.height = [], width, height

    def text(self, x, y, words, size=13, colour=INK, weight=400, anchor="start"):
        words = words.replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" font-weight="{weight}" '
                          f'text-anchor="{anchor}">{words}</text>')

    def box(self, x, y, width, height, colour, opacity=1.0, title=""):
        inside = f"<title>{title}</title>" if title else ""
        self.parts.append(f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}" '
                          f'fill-opacity="{opacity:g}">{inside}</rect>')

    def area(self, points, colour, opacity=1.0):
        path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        self.parts.append(f'<polygon points="{path}" fill="{colour}" fill-opacity="{opacity:g}"/>')

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
                f'height="{self.height}" '
                'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
                f'<rect width="{self.width}" height="{self.height}" rx="8" fill="#ffffff"/>' + "\n".join(self.parts) + "</svg>\n")


def draw_tree(drawing, x, y, width, group, colour):
    """The prompt once, and each completion behind it."""
    prompt, completions = group
    scale, height = width / (prompt + max(completions)), 26
    middle = y + (len(completions) * (height + 8) - 8) / 2
    drawing.box(x, middle - height / 2, prompt * scale - 14, height, colour)
    drawing.text(x + 10, middle + 5, f"prompt, {prompt} tokens", colour="#ffffff", weight=600)
    for i, tokens in enumerate(completions):
        top, begin = y + i * (height + 8), x + prompt * scale
        drawing.area([(begin - 14, middle - 2), (begin - 14, middle + 2), (begin, top + height / 2 + 2), (begin, top + height / 2 - 2)],
                     colour, 0.35)
        drawing.box(begin, top, tokens * scale, height, colour, 0.6)
        drawing.text(begin + 6, top + 18, str(tokens), size=12)
    return y + len(completions) * (height + 8)


def leaves_of(group):
    """The numbers of the leaves of each group, as plans count them."""
    first, numbers = 0, []
    for _, completions in group:
        numbers.append(range(first, first + len(completions)))
        first += len(completions)
    return numbers


def groups_in(pack, groups):
    """(group, its leaves in the pack) in the order of the pack."""
    numbers, found = leaves_of(groups), []
    for leaf in pack["leaves"]:
        which = next(i for i, own in enumerate(numbers) if leaf in own)
        if not found or found[-1][0] != which:
            found.append((which, []))
        found[-1][1].append(leaf - numbers[which][0])
    return found


def draw_pack(drawing, x, y, side, pack, groups):
    """Rows against rows: a row sees its own path from the root, and nothing else."""
    rows = sum(groups[g][0] + sum(groups[g][1][i] for i in leaves) for g, leaves in groups_in(pack, groups))
    scale, row = side / rows, 0
    drawing.box(x, y, side, side, FAINT)
    for g, leaves in groups_in(pack, groups):
        colour, prompt = COLOURS[g % len(COLOURS)], groups[g][0]
        at = lambda r: r * scale
        first = row
        drawing.area([(x + at(first), y + at(first)), (x + at(first), y + at(first + prompt)),
                      (x + at(first + prompt), y + at(first + prompt))], colour)
        row += prompt
        for i in leaves:
            tokens = groups[g][1][i]
            drawing.box(x + at(first), y + at(row), at(prompt), at(tokens), colour, 0.45)
            drawing.area([(x + at(row), y + at(row)), (x + at(row), y + at(row + tokens)),
                          (x + at(row + tokens), y + at(row + tokens))], colour, 0.8)
            row += tokens
    assert row == sum(pack["rows"]), "a pack's rows are those of its groups"
    return rows


def draw_pipeline(drawing, x, y, width, trace, stages):
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    scale, height = width / max(event["ts"] + event["dur"] for event in events), 34
    for stage in range(stages):
        top = y + stage * (height + 6)
        drawing.text(x - 10, top + 22, f"stage {stage}", size=12, colour=GREY, anchor="end")
        drawing.box(x, top, width, height, FAINT)
    for event in events:
        left, wide, top = x + event["ts"] * scale, event["dur"] * scale, y + event["tid"] * (height + 6)
        kind, number = event["name"][0], event["args"]["pack"]
        drawing.box(left + 0.5, top, max(0.5, wide - 1), height, COLOURS[number % len(COLOURS)],
                    {"F": 1.0, "B": 0.6}.get(kind, 0.3), f"{event['name']}: pack {number}")
        if wide > 22:
            drawing.text(left + wide / 2, top + 22, event["name"], size=11, colour="#ffffff" if kind == "F" else INK, anchor="middle")
    return y + stages * (height + 6)


def draw(plan_of, trace):
    packs = plan_of["plan"]["replicas"][0]["packs"]
    shown = max((pack for pack in packs), key=lambda pack: (len(groups_in(pack, GROUPS)), len(pack["leaves"])))
    group = groups_in(shown, GROUPS)[0][0]
    logical = sum(len(c) * p + sum(c) for p, c in GROUPS)
    drawing = Drawing()
    drawing.text(24, 38, "1  A group is a tree", size=16, weight=600)
    prompt, completions = GROUPS[group]
    drawing.text(24, 60, "Samples that begin alike share the rows of what they share.", colour=GREY)
    bottom = draw_tree(drawing, 24, 84, 420, GROUPS[group], COLOURS[group % len(COLOURS)])
    drawing.text(24, bottom + 20, f"{len(completions)} samples, {len(completions) * prompt + sum(completions):,} tokens: "
                                  f"{prompt + sum(completions):,} rows to compute.", colour=GREY)
    drawing.text(500, 38, "2  Packs hold whole trees or parts of them", size=16, weight=600)
    drawing.text(500, 60, "Who sees whom: a row sees its own path from the root.", colour=GREY)
    rows = draw_pack(drawing, 500, 78, 244, shown, GROUPS)
    drawing.text(760, 100, f"{rows:,} rows of", size=12, colour=GREY)
    drawing.text(760, 117, f"{len(groups_in(shown, GROUPS))} groups, side by side;", size=12, colour=GREY)
    drawing.text(760, 134, "what is grey is never", size=12, colour=GREY)
    drawing.text(760, 151, "computed.", size=12, colour=GREY)
    drawing.text(24, 366, "3  Packs are chosen and ordered for the pipeline", size=16, weight=600)
    by_name = {one["schedule"]: one for one in plan_of["schedules"]}
    drawing.text(24, 388, f"{len(GROUPS)} groups, {logical:,} tokens in {plan_of['tokens_computed']:,} rows, {len(packs)} packs on "
                          f"{plan_of['pp']} stages: forward (F), backward (B), weight gradients (W).", colour=GREY)
    drawing.text(24, 406, f"Simulated: the busiest stage is idle {100 * plan_of['bubble']:.1f} % of the step "
                          f"(1F1B: {100 * by_name['1f1b']['bubble']:.1f} %).", colour=GREY)
    bottom = draw_pipeline(drawing, 84, 422, WIDTH - 84 - 24, trace, plan_of["pp"])
    drawing.text(84, bottom + 14, "time", size=12, colour=GREY)
    return drawing.svg()


def options_of(words, **defaults):
    """--check, and options with these defaults."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", default=value)
    parser.add_argument("--check", action="store_true", help="writes nothing; ends with 1 when a file is another picture")
    return parser.parse_args()


def put(out, picture, check):
    """Writes the picture, or says whether it is there: what the program ends with."""
    out = pathlib.Path(out)
    if check:
        return 0 if out.read_text() == picture else f"{out} is not what {sys.argv[0]} draws: run it and look at the picture"
    out.write_text(picture)
    return 0


def main():
    options = options_of(__doc__, build="build/release", out="bench/results/overview.svg")
    return put(options.out, draw(*plan(options.build)), options.check)


if __name__ == "__main__":
    sys.exit(main())
