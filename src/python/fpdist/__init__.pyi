import contextlib
from typing import NamedTuple

from torch import Tensor, nn

__version__: str

class Pack(NamedTuple):
    input_ids: Tensor
    position_ids: Tensor
    subtree_end: Tensor
    row: Tensor

class SelectedLogprob(NamedTuple):
    logp: Tensor
    entropy: Tensor
    argmax: Tensor

class SharedPrefix(contextlib.AbstractContextManager["SharedPrefix", None]):
    pack: Pack | None

def pack(input_ids: Tensor, attention_mask: Tensor | None = None) -> Pack: ...
def selected_logprob(
    hidden: Tensor, weight: Tensor, score_row: Tensor, target: Tensor, *, temperature: float = 1.0
) -> SelectedLogprob: ...
def shared_prefix(
    model: nn.Module, input_ids: Tensor | None = None, attention_mask: Tensor | None = None
) -> SharedPrefix: ...
def tree_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    subtree_end: Tensor,
    *,
    q_row: Tensor | None = None,
    k_row: Tensor | None = None,
    scale: float | None = None,
) -> Tensor: ...
