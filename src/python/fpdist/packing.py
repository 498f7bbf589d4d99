"""From a padded batch to a pack in which every shared token stands once.

The unpadded rows of a batch form a trie. A pack is its nodes, one token each, in depth-first order. Sorted rows give it
without building it: a row adds what follows its common prefix with the row before it (as in a suffix array, Kasai et al.
2001), and the rows that share a token stand together.
"""

from typing import NamedTuple

import torch

__all__ = ["Pack", "pack"]


class Pack(NamedTuple):
    """T tokens of a batch of B rows and L columns, every shared one once."""

    input_ids: torch.Tensor  # [T] the tokens, where the batch was
    position_ids: torch.Tensor  # [T] int64, how many tokens of its row stand before a token; where the batch was
    subtree_end: torch.Tensor  # [T] int32 on the CPU: row i sees key j if and only if j <= i < subtree_end[j]
    row: torch.Tensor  # [B, L] int64, where the batch was: a token's row of the pack, -1 for padding


def pack(input_ids, attention_mask=None):
    """The pack of a padded batch.

    input_ids: [B, L] int64. attention_mask: [B, L], 0 for padding, which may stand on the left or on the right of a row
    but not inside it; without one every position is a token. Rows may be identical, prefixes of each other, share
    nothing, or be empty. The order of the pack's rows depends on the tokens alone.
    """
    tokens, starts = _token_rows(input_ids, attention_mask)
    order = sorted(range(len(tokens)), key=tokens.__getitem__)
    shared = [0] + [_common(tokens[a], tokens[b]) for a, b in zip(order, order[1:])]
    first, total = [], 0
    for turn, batch_row in enumerate(order):
        first.append(total)
        total += len(tokens[batch_row]) - shared[turn]
    if not total:
        raise ValueError("fpdist: the batch has no tokens: attention_mask is 0 everywhere")

    ids = torch.empty(total, dtype=torch.int64)
    depth = torch.empty(total, dtype=torch.int64)
    row = torch.full(input_ids.shape, -1, dtype=torch.int64)
    path = torch.empty(input_ids.shape[1], dtype=torch.int64)
    for batch_row, begin, common in zip(order, first, shared):
        length = len(tokens[batch_row])
        own = slice(begin, begin + length - common)
        ids[own] = torch.tensor(tokens[batch_row][common:], dtype=torch.int64)
        depth[own] = path[common:length] = torch.arange(common, length)
        path[common:length] += begin - common
        row[batch_row, starts[batch_row] : starts[batch_row] + length] = path[:length]
    lengths = [len(tokens[batch_row]) for batch_row in order]
    there = input_ids.device
    return Pack(ids.to(there, input_ids.dtype), depth.to(there), _subtree_ends(lengths, shared, first, total), row.to(there))


def _token_rows(input_ids, attention_mask):
    """Each row's tokens as a list, and the column where they start."""
    if input_ids.dim() != 2:
        raise ValueError(f"fpdist: input_ids has shape {tuple(input_ids.shape)}, needs [rows, columns]")
    columns = input_ids.shape[1]
    if attention_mask is None:
        return input_ids.tolist(), [0] * len(input_ids)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"fpdist: attention_mask has shape {tuple(attention_mask.shape)}, input_ids {tuple(input_ids.shape)}: give the"
            " mask of the padding, one number a token"
        )
    there = attention_mask.to("cpu") != 0
    count, start = there.sum(1), there.int().argmax(1)
    column = torch.arange(columns)
    whole = (column >= start[:, None]) & (column < (start + count)[:, None])
    for batch_row in (there != whole).any(1).nonzero():
        raise ValueError(
            f"fpdist: attention_mask of row {batch_row.item()} has a hole: padding stands on the left or on the right of a"
            " row; take such tokens out of input_ids"
        )
    starts, counts = start.tolist(), count.tolist()
    return [row[s : s + n] for row, s, n in zip(input_ids.tolist(), starts, counts)], starts


def _common(a, b):
    """How many tokens two rows begin with alike: halving, as comparing lists takes no Python step a token."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _subtree_ends(lengths, shared, first, total):
    """A token at depth d ends where the first later row starts that shares no more than d tokens with the rows between."""
    end = torch.full((total,), total, dtype=torch.int32)
    for turn, (length, common, begin) in enumerate(zip(lengths, shared, first)):
        deepest = length
        for later in range(turn + 1, len(lengths)):
            stays = max(shared[later], common)
            if stays < deepest:
                end[begin + stays - common : begin + deepest - common] = first[later]
                deepest = stays
            if deepest == common:
                break
    return end
