"""The operators, from the library beside this file. They are torch.ops.fpdist's; here they have names and words."""

import pathlib
from typing import NamedTuple

import torch

__all__ = ["SelectedLogprob", "selected_logprob", "tree_attention"]

torch.ops.load_library(str(pathlib.Path(__file__).parent / "libfpdist_operators.so"))


def tree_attention(q, k, v, subtree_end, *, q_row=None, k_row=None, scale=None):
    """Attention over a pack of prefix trees in depth-first order: [Tq, Hq, D] in q's dtype.

    q: [Tq, Hq, D] float32, bfloat16, float64 or float16. k, v: [Tk, Hkv, D] likewise; Hq is a multiple of Hkv.
    subtree_end: [Tk] int32 on the CPU. Query i sees key j if and only if k_row[j] <= q_row[i] < subtree_end[j], the
    column form of FlashMask (Wang et al. 2025, arXiv 2410.01359); fpdist.pack makes it. A query without keys gives 0.
    q_row, k_row: [Tq], [Tk] int32 on the CPU, ascending: the rows of the pack that q and k are; all of it if left out.
    scale: of q k^T before the softmax; 1 / sqrt(D) if left out.

    Differentiable in q, k and v, with O(T) memory beside them (FlashAttention, Dao et al. 2022, arXiv 2205.14135), and
    the same bits whatever the number of threads.
    """
    q_row = _all_rows(q) if q_row is None else q_row
    k_row = _all_rows(k) if k_row is None else k_row
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return torch.ops.fpdist.tree_attention(q, k, v, q_row, k_row, subtree_end, scale, True)[0]


def _all_rows(x):
    return torch.arange(x.shape[0], dtype=torch.int32)


class SelectedLogprob(NamedTuple):
    """Of S scores over R rows, in float32 (float64 for float64)."""

    logp: torch.Tensor  # [S], differentiable
    entropy: torch.Tensor  # [R] of each row's distribution, differentiable
    argmax: torch.Tensor  # [R] int64, the likeliest token


def selected_logprob(hidden, weight, score_row, target, *, temperature=1.0):
    """Log-probabilities of chosen tokens, without logits that outlive a chunk of rows.

    hidden: [R, H] float32, bfloat16 or float64. weight: [V, H] in the same dtype, the head's.
    score_row: [S] int64 in [0, R), ascending. target: [S] int64 in [0, V).
    logp[s] = logits[score_row[s], target[s]] - logsumexp(logits[score_row[s]]), logits = hidden @ weight.T / temperature.

    Differentiable in hidden and weight; the backward makes the logits again, chunk by chunk (as Liger, Hsu et al. 2024,
    arXiv 2410.10989, and Cut Cross-Entropy, Wijmans et al. 2024, arXiv 2411.09009).
    """
    return SelectedLogprob(*torch.ops.fpdist.selected_logprob(hidden, weight, score_row, target, temperature)[:3])
