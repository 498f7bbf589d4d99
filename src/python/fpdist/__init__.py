"""Shared prefixes for people who train with PyTorch.

  with fpdist.shared_prefix(model, input_ids, attention_mask):    a Hugging Face model computes every shared token once
  fpdist.pack                                                     the pack that this runs on, for models of one's own
  fpdist.tree_attention, fpdist.selected_logprob                  the operators
  import fpdist.hugging_face                                      registers attn_implementation="fpdist_tree"
"""

from fpdist.operators import SelectedLogprob, selected_logprob, tree_attention
from fpdist.packing import Pack, pack
from fpdist.version import __version__

__all__ = ["Pack", "SelectedLogprob", "__version__", "pack", "selected_logprob", "shared_prefix", "tree_attention"]


def shared_prefix(model, input_ids=None, attention_mask=None):
    """See fpdist.hugging_face.SharedPrefix; imports transformers."""
    from fpdist.hugging_face import SharedPrefix

    return SharedPrefix(model, input_ids, attention_mask)
