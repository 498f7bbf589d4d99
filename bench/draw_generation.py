#!/usr/bin/env python3
"""Draws how generation goes: the loop of online GRPO, and the rows of a wave, what is kept of them and who enters when.

  python3 bench/draw_generation.py [--folder bench/results] [--check]

The forest, its places and the times are those of the prompts below. The pictures in configs/README.md are what it writes;
a test holds the two against each other (--check).
"""
import sys

from draw_overview import COLOURS, FAINT, GREY, Drawing, options_of, put

PREAMBLE = 9
# (own rows of a prompt behind the preamble, tokens of each of its completions)
PROMPTS = [(4, [7, 3, 10]), (6, [5, 12, 4]), (3, [9, 6, 8]), (5, [4, 11, 7])]
WAVE = 2     # prompts of the wave whose rows are drawn
DONE = 5     # tokens that its completions have then, or their end
ROOM = 8     # places that a leaf has then
SLOTS = 6    # completions in flight
LOOP = [("prompts", ["of round r: by", "train.seed and r alone"]),
        ("completions", ["each prefix computed", "once; tokens depend on", "(seed, draw, place)"]),
        ("rewards", ["functions, a program,", "a function of yours"]),
        ("advantages", ["over the round; old", "log-probs, reference"]),
        ("steps", ["steps_per_generation", "x num_iterations, on", "any mesh: packed trees"])]


def arrow(drawing, x, y, to_x, to_y, colour=GREY):
    """Straight, along one axis."""
    across = y == to_y
    sign = 1 if (to_x - x if across else to_y - y) > 0 else -1
    if across:
        drawing.box(min(x, to_x), y - 1, abs(to_x - x) - 4, 2, colour)
        drawing.area([(to_x, y), (to_x - 9 * sign, y - 5), (to_x - 9 * sign, y + 5)], colour)
    else:
        drawing.box(x - 1, min(y, to_y) + (0 if sign > 0 else 4), 2, abs(to_y - y) - 4, colour)
        drawing.area([(x, to_y), (x - 5, to_y - 9 * sign), (x + 5, to_y - 9 * sign)], colour)


def draw_loop():
    drawing, wide, high, gap, left, top = Drawing(960, 236), 160, 92, 28, 24, 62
    drawing.text(left, 34, "A round of rollouts", size=16, weight=600)
    middles = []
    for i, (name, lines) in enumerate(LOOP):
        x = left + i * (wide + gap)
        middles.append(x + wide / 2)
        drawing.box(x, top, wide, high, COLOURS[i], 0.14)
        drawing.box(x, top, wide, 4, COLOURS[i])
        drawing.text(x + 12, top + 28, name, size=14, weight=600)
        for line, words in enumerate(lines):
            drawing.text(x + 12, top + 48 + 16 * line, words, size=12, colour=GREY)
        if i > 0:
            arrow(drawing, x - gap + 4, top + high / 2, x - 4, top + high / 2)
    below = top + high + 36
    drawing.box(middles[-1] - 1, top + high, 2, below - top - high + 1, GREY)
    drawing.box(middles[1], below - 1, middles[-1] - middles[1], 2, GREY)
    arrow(drawing, middles[1], below, middles[1], top + high + 2)
    drawing.text((middles[1] + middles[-1]) / 2, below + 24, "the weights as the steps have left them: the engine is the model that is trained, "
                 "kept keys are thrown away", size=12, colour=GREY, anchor="middle")
    return drawing.svg()


def places_of(prompts):
    """(first place, places, filled, prompt or -1, completion or -1) of each run of rows, in order."""
    runs, at = [(0, PREAMBLE, PREAMBLE, -1, -1)], PREAMBLE
    for p, (own, lengths) in enumerate(prompts):
        runs.append((at, own, own, p, -1))
        at += own
        for c, length in enumerate(lengths):
            runs.append((at, ROOM, min(length, DONE), p, c))
            at += ROOM
    return runs


def draw_run(drawing, x, y, cell, high, run):
    first, places, filled, prompt, completion = run
    colour = GREY if prompt < 0 else COLOURS[prompt]
    strength = 1.0 if completion < 0 else 0.6
    drawing.box(x + first * cell, y, places * cell - 1, high, FAINT)
    drawing.box(x + first * cell, y, filled * cell - 1, high, colour, strength)


def draw_places(drawing, x, y, width, prompts):
    """The wave's places, and below them what the query of each completion sees."""
    runs = places_of(prompts)
    cell, high = width / (runs[-1][0] + runs[-1][1]), 26
    for run in runs:
        draw_run(drawing, x, y, cell, high, run)
    drawing.text(x + 6, y + 18, "preamble", size=12, colour="#ffffff", weight=600)
    line = y + high + 14
    for own in (run for run in runs if run[4] >= 0):
        drawing.box(x, line, width, 9, FAINT, 0.6)
        for first, _, filled, prompt, completion in runs:
            if prompt < 0 or (prompt == own[3] and completion in (-1, own[4])):
                drawing.box(x + first * cell, line, filled * cell - 1, 9, COLOURS[own[3]], 0.35 if completion < 0 else 0.8)
        line += 12
    return line


def times_of(prompts):
    """(slot, begin, end, prompt) of each completion: a prompt enters whole, as soon as slots are free for all of it."""
    free, bars, now = [0] * SLOTS, [], 0
    for p, (_, lengths) in enumerate(prompts):
        order = sorted(range(SLOTS), key=lambda slot: (free[slot], slot))[:len(lengths)]
        now = max(now, max(free[slot] for slot in order))
        for slot, length in zip(sorted(order), lengths):
            bars.append((slot, now, now + length, p))
            free[slot] = now + length
    return bars


def draw_times(drawing, x, y, width, prompts):
    bars = times_of(prompts)
    scale, high = width / max(end for _, _, end, _ in bars), 18
    for slot in range(SLOTS):
        drawing.box(x, y + slot * (high + 4), width, high, FAINT, 0.6)
    for slot, begin, end, prompt in bars:
        drawing.box(x + begin * scale, y + slot * (high + 4), (end - begin) * scale - 2, high, COLOURS[prompt], 0.6)
        drawing.box(x + begin * scale, y + slot * (high + 4), 5, high, COLOURS[prompt])
    drawing.text(x, y + SLOTS * (high + 4) + 14, "time", size=12, colour=GREY)


def draw_arena():
    drawing = Drawing(960, 432)
    drawing.text(24, 34, "1  The rows of a wave, kept keys and values of each", size=16, weight=600)
    completions = sum(len(lengths) for _, lengths in PROMPTS[:WAVE])
    drawing.text(24, 56, "A prefix once; a leaf behind its prompt for each completion, with room to grow (pale).", colour=GREY)
    bottom = draw_places(drawing, 24, 72, 912, PROMPTS[:WAVE])
    drawing.text(24, bottom + 16, f"A step is {completions} queries, one a completion: each sees its own path, in one attention over all rows. "
                 "The preamble is read once for all.", colour=GREY)
    drawing.text(24, bottom + 56, "2  Prompts enter whole as others end", size=16, weight=600)
    drawing.text(24, bottom + 78, f"{SLOTS} completions at most, or as many as rollout.kv_gib holds rows for; what somebody has computed moves along.",
                 colour=GREY)
    draw_times(drawing, 24, bottom + 92, 912, PROMPTS)
    return drawing.svg()


def main():
    options = options_of(__doc__, folder="bench/results")
    ends = [put(f"{options.folder}/{name}.svg", picture, options.check)
            for name, picture in (("generation_loop", draw_loop()), ("generation_rows", draw_arena()))]
    return next((end for end in ends if end), 0)


if __name__ == "__main__":
    sys.exit(main())
