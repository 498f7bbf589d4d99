#!/usr/bin/env python3
"""Prices a plan of fpdist_plan --json by itself: packs, slices, op lists and simulation are made again from the plan's
leaves and rows alone, in plain Python, so that the planner's own figures can be checked.

usage: price_plan.py LENGTHS.jsonl PLAN.json
"""
import argparse
import json
import pathlib
import re

COSTS = pathlib.Path(__file__).resolve().parents[1] / "configs" / "costs" / "llama3-8b.yaml"


def read_costs(path=COSTS):
    pairs = re.findall(r"^(\w+):\s*(\w+)", path.read_text(), re.M)
    return {key: value == "true" if value in ("true", "false") else int(value) for key, value in pairs}


class Tree:
    """Nodes in DFS pre-order; leaves numbered in file order."""

    def __init__(self, path):
        self.parent, self.rows, self.above, self.line, self.leaf = [], [], [], [], []
        for line, text in enumerate(pathlib.Path(path).read_text().splitlines()):
            if text.strip():
                self._add(json.loads(text), -1, line)

    def _node(self, parent, rows, line):
        self.parent.append(parent)
        self.rows.append(rows)
        self.above.append(self.above[parent] + self.rows[parent] if parent >= 0 else 0)
        self.line.append(line)
        return len(self.rows) - 1

    def _add(self, item, parent, line):
        node = self._node(parent, item["prefix"], line)
        for key, value in item.items():
            if key == "completions":
                self.leaf += [self._node(node, rows, line) for rows in value]
            elif key == "children":
                for child in value:
                    self._add(child, node, line)

    def pack_rows(self, leaves):
        """(keys seen, edges leaving) of every row of a pack with these leaves."""
        keep, is_leaf = set(), set()
        for i in leaves:
            node = self.leaf[i]
            is_leaf.add(node)
            while node >= 0:
                keep.add(node)
                node = self.parent[node]
        rows, last_row = [], {}
        for node in sorted(keep):
            first = len(rows)
            rows += [[self.above[node] + i + 1, 0] for i in range(self.rows[node])]
            last_row[node] = len(rows) - 1 if self.rows[node] else last_row.get(self.parent[node])
            if node in is_leaf and self.rows[node]:
                above = last_row.get(self.parent[node])
                if above is not None:
                    rows[above][1] += 1
                for row in rows[first:-1]:
                    row[1] += 1
        return rows

    def unique(self):
        leaf = set(self.leaf)
        total = [0, 0, 0]
        for node, rows in enumerate(self.rows):
            total[0] += rows
            total[1] += rows * self.above[node] + rows * (rows + 1) // 2
            if node in leaf:
                total[2] += rows if self.above[node] else max(0, rows - 1)
        return total


def total_work(costs, work):
    rows, pairs, edges = work
    pair = costs["forward_pair"] + costs["backward_pair"]
    return costs["layers"] * (3 * costs["per_row"] * rows + pair * pairs) + 3 * costs["per_edge"] * edges


def slices_of(tree, pack):
    rows, begin, slices = tree.pack_rows(pack["leaves"]), 0, []
    for count in pack["rows"]:
        part = rows[begin:begin + count]
        slices.append((count, sum(row[0] for row in part), sum(row[1] for row in part)))
        begin += count
    assert begin == len(rows), f"slices hold {begin} rows, the pack {len(rows)}"
    return slices


def op_list(schedule, p, v, device, counts, window):
    """[(kind, unit, the device's own run)] of a device; counts: slices of each pack."""
    n = sum(counts)
    backward, upto, first = [], [], 0
    for count in counts:
        backward += range(first + count - 1, first - 1, -1)
        upto += [first + count] * count
        first += count
    if schedule == "interleaved":
        assert n % p == 0, f"{n} units are no multiple of {p}"
        fs = [(u, c) for g in range(0, n, p) for c in range(v) for u in range(g, g + p)]
        bs = [(u, c) for g in range(0, n, p) for c in reversed(range(v)) for u in backward[g:g + p]]
        place = {key: i for i, key in enumerate(fs)}
        ahead = max([1 + (v - 1) * p + window - 1] + [place[key] + 1 - j for j, key in enumerate(bs)])
        wanted = [min(n * v, j + ahead + 2 * (p - 1 - device)) for j in range(n * v)]
    else:
        fs, bs = [(u, 0) for u in range(n)], [(u, 0) for u in backward]
        wanted = [min(n, max(upto[j], j + window) + p - 1 - device) for j in range(n)]
    ops, done, weights = [], 0, 0
    for j, (unit, run) in enumerate(bs):
        while done < wanted[j]:
            ops.append(("F",) + fs[done])
            done += 1
        ops.append(("B", unit, run))
        while schedule == "zb-h1" and j + 1 - weights > device:
            ops.append(("W",) + bs[weights])
            weights += 1
    while schedule == "zb-h1" and weights < len(bs):
        ops.append(("W",) + bs[weights])
        weights += 1
    return ops


def simulate(schedule, p, v, layers, costs, packs, window):
    """Makespan, busy time of each device, most rows in flight."""
    units = [unit for pack in packs for unit in pack]
    counts = [len(pack) for pack in packs]

    def cost(kind, unit, run):
        rows, pairs, edges = units[unit]
        linear, head = costs["per_row"] * (rows + costs["overhead_rows"]), costs["per_edge"] * edges
        one = {"F": linear + costs["forward_pair"] * pairs, "B": linear + costs["backward_pair"] * pairs, "W": linear}
        kinds = "BW" if kind == "B" and schedule != "zb-h1" else kind
        return sum(layers[run] * one[k] + (head if run == p * v - 1 else 0) for k in kinds)

    lists = [op_list(schedule, p, v, d, counts, window) for d in range(p)]
    clock, at, end, busy, peak, held = [0] * p, [0] * p, {}, [0] * p, 0, [0] * p
    moved = True
    while moved:
        moved = False
        for d in range(p):
            while at[d] < len(lists[d]):
                kind, unit, own = lists[d][at[d]]
                run = own * p + d
                needs = ("F", unit, run - 1) if kind == "F" and run else ("B", unit, run + 1) if kind == "B" and run + 1 < p * v else None
                if needs and needs not in end:
                    break
                time = cost(kind, unit, run)
                clock[d] = max(clock[d], end.get(needs, 0)) + time
                busy[d] += time
                end[(kind, unit, run)] = clock[d]
                if kind == "F":
                    held[d] += units[unit][0]
                    peak = max(peak, held[d])
                elif kind == "W" or schedule != "zb-h1":
                    held[d] -= units[unit][0]
                at[d] += 1
                moved = True
    assert all(at[d] == len(lists[d]) for d in range(p)), "the op lists deadlock"
    return max(clock), busy, peak / v


def price(lengths, result, keep_lines=False):
    """The figures of a plan, from its leaves and rows; asserts that it is a plan for all samples within its limits."""
    costs, tree, plan = read_costs(), Tree(lengths), result["plan"]
    p, v, dp, cap = result["pp"], result["virtual_stages"], result["dp"], result["max_tokens"]
    leaves = sorted(leaf for replica in plan["replicas"] for pack in replica["packs"] for leaf in pack["leaves"])
    assert leaves == list(range(len(tree.leaf))), "not every sample once"
    assert sum(plan["layers"]) == costs["layers"] and len(plan["layers"]) == p * v
    seen = {}
    makespans, busiest, peak = [], 0, 0
    for r, replica in enumerate(plan["replicas"]):
        packs = [slices_of(tree, pack) for pack in replica["packs"]]
        for i, pack in enumerate(packs):
            assert sum(unit[0] for unit in pack) <= cap, "a pack above the cap"
            for leaf in replica["packs"][i]["leaves"]:
                assert seen.setdefault(tree.line[tree.leaf[leaf]], (r, i)) == (r, i) or not keep_lines, "a torn group"
        makespan, busy, rows = simulate(result["schedule"], p, v, plan["layers"], costs, packs, replica["window"])
        makespans.append(makespan)
        busiest += max(busy)
        peak = max(peak, rows)
    most = p * cap if result["schedule"] != "interleaved" else ((v - 1) * p + 2 * (p - 1) + 1) / v * cap
    assert peak <= most, f"{peak} rows in flight, {most} allowed"
    ideal = total_work(costs, tree.unique()) / (dp * p)
    step = max(makespans)
    return {"step_over_ideal": step / ideal, "replica_imbalance": step * dp / sum(makespans),
            "bubble": 1 - busiest / (dp * step), "peak_tokens_in_flight": peak}


def check(lengths, result, keep_lines=False):
    """The planner's figures against ours."""
    mine = price(lengths, result, keep_lines)
    for key, value in mine.items():
        said = result[key]
        assert abs(said - value) <= (1 if key.startswith("peak") else 1e-9 * max(1, abs(value))), f"{key}: planner {said}, priced {value}"
    return mine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lengths")
    parser.add_argument("plan")
    options = parser.parse_args()
    print(json.dumps(check(options.lengths, json.loads(pathlib.Path(options.plan).read_text())), indent=1))
