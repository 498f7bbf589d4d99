"""Golden values for tests/loss: Prefix-RFT's advantages, loss and gradients, from its formulas a token at a time.

Run with numpy: python tests/golden/make_prefix_rft_golden.py
Writes beside this file prefix_rft.json:
  groups: of samples {reward, prefix: tokens of a demonstration, logp, old_logp, entropy: of all tokens of the completion}
  cases:  options under our names, advantage and prefix_advantage of every sample, the step's loss, its gradient in logp
"""
import json
import pathlib

import numpy as np

RANDOM = np.random.default_rng(9)
EPSILON, DUAL_CLIP = 0.2, 3.0


def sample(prefix):
    count = len(prefix) + int(RANDOM.integers(1, 6))
    logp = -np.abs(RANDOM.normal(1.5, 0.8, count))
    return {"reward": float(RANDOM.integers(0, 3)) / 2, "prefix": prefix, "logp": logp.tolist(),
            "old_logp": (logp + RANDOM.normal(0, 0.6, count)).tolist(), "entropy": RANDOM.uniform(0.1, 3, count).tolist()}


def group(plain, rollouts_of_prefixes):
    samples = [sample([]) for _ in range(plain)]
    for rollouts in rollouts_of_prefixes:
        prefix = RANDOM.integers(4, 60, RANDOM.integers(2, 9)).tolist()
        samples += [sample(prefix) for _ in range(rollouts)]
    return samples


def advantages(samples):
    plain = [one["reward"] for one in samples if not one["prefix"]]
    plain_mean = np.mean(plain) if len(plain) > 1 else 0.0
    own, given = [], []
    for one in samples:
        same = [other["reward"] for other in samples if other["prefix"] == one["prefix"]]
        centred = one["reward"] - (np.mean(same) if len(same) > 1 else 0.0)
        own.append(float(centred))
        given.append(float((centred - plain_mean) / len(same)) if one["prefix"] else None)
    return own, given


def filtered(entropies, keep):
    """Which of a list of tokens stay: all but the floor((1 - keep) n) of lowest entropy."""
    dropped = int(np.floor((1 - keep) * len(entropies) + 1e-9))
    stays = np.ones(len(entropies), bool)
    stays[np.argsort(entropies)[:dropped]] = False
    return stays


def term(ratio, advantage, clips):
    """The loss of a token and its derivative in the log-prob."""
    if not clips:
        return -ratio * advantage, -ratio * advantage
    clipped = min(max(ratio, 1 - EPSILON), 1 + EPSILON)
    if advantage >= 0:
        return -min(ratio * advantage, clipped * advantage), -ratio * advantage if ratio <= 1 + EPSILON else 0.0
    value = min(-DUAL_CLIP * advantage, max(-ratio * advantage, -clipped * advantage))
    return value, -ratio * advantage if 1 - EPSILON <= ratio <= DUAL_CLIP else 0.0


def case(groups, options):
    samples = [one for samples in groups for one in samples]
    own, given = (sum(parts, []) for parts in zip(*map(advantages, groups)))
    if options["prefix_advantage"] == "batch":
        scale = np.std([one["reward"] for one in samples], ddof=1) + 1e-4
        own, given = [value / scale for value in own], [None if value is None else value / scale for value in given]
    prefixes = [one["entropy"][:len(one["prefix"])] for one in samples]
    keep = options["prefix_entropy_keep"]
    if options["prefix_entropy_scope"] == "step":
        ends = np.cumsum([len(prefix) for prefix in prefixes])[:-1]
        stays = np.split(filtered(np.concatenate(prefixes), keep), ends)
    else:
        stays = [filtered(prefix, keep) for prefix in prefixes]
    total, tokens, gradients = 0.0, sum(len(one["logp"]) for one in samples), []
    over = len(samples) * options["max_completion_length"] if options["loss_type"] == ["dr_grpo"] else tokens
    for one, advantage, of_prefix, stay in zip(samples, own, given, stays):
        gradients.append([])
        for t, (logp, old) in enumerate(zip(one["logp"], one["old_logp"])):
            is_given = t < len(one["prefix"])
            worth = (of_prefix if stay[t] else 0.0) if is_given else advantage
            value, slope = term(np.exp(logp - old), worth, not is_given or options["clip_prefix"])
            total += value / over
            gradients[-1].append(float(slope / over))
    return {"options": options, "advantages": own, "prefix_advantages": given, "loss": float(total), "grad": gradients}


def main():
    groups = [group(3, [1]), group(2, [2]), group(4, [4, 1]), group(1, [2, 1]), group(4, []), group(0, [1, 2, 4]), group(1, [])]
    cases = [case(groups, {"loss_type": [loss_type], "prefix_advantage": advantage, "prefix_entropy_keep": keep,
                           "prefix_entropy_scope": scope, "clip_prefix": clips, "max_completion_length": 20})
             for loss_type, advantage, keep, scope, clips in
             [("dapo", "dr_grpo", 0.2, "step", False), ("dapo", "dr_grpo", 0.2, "sample", False), ("dapo", "dr_grpo", 1, "step", False),
              ("dapo", "dr_grpo", 0, "step", False), ("dapo", "dr_grpo", 0, "sample", False), ("dapo", "batch", 0.35, "step", True),
              ("dr_grpo", "dr_grpo", 0.5, "sample", True), ("dr_grpo", "batch", 0.2, "step", False)]]
    path = pathlib.Path(__file__).parent / "prefix_rft.json"
    text = json.dumps({"groups": groups, "cases": cases}, separators=(",", ":"))
    path.write_text(text.replace('"cases":', '\n"cases":').replace('{"options"', '\n{"options"') + "\n")
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
