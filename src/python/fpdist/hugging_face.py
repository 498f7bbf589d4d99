"""Hugging Face models on packs: attn_implementation="fpdist_tree", and shared_prefix, which packs by itself.

Llama, Qwen2 and Qwen3 hand the keyword arguments that they do not know down to attention. So a model runs on a pack if
its attention is ours and it is called with the pack's subtree_end; what shared_prefix adds is the way in and out.
"""

import functools
import inspect

import torch
import transformers

from fpdist.operators import tree_attention
from fpdist.packing import Pack, pack

__all__ = ["IMPLEMENTATION", "SharedPrefix", "tree_attention_forward"]

IMPLEMENTATION = "fpdist_tree"
FAMILIES = ("llama", "qwen2", "qwen3")


def tree_attention_forward(module, query, key, value, attention_mask, *, scaling=None, dropout=0.0, subtree_end=None,
                           sliding_window=None, position_ids=None, softcap=None, **_):
    """What transformers calls in a layer: query [1, Hq, T, D], key and value [1, Hkv, T, D] -> ([1, T, Hq, D], None).

    Packed by hand, a model is called as model(input_ids=pack.input_ids[None], position_ids=pack.position_ids[None],
    subtree_end=pack.subtree_end, use_cache=False), without attention_mask.
    """
    if subtree_end is None:
        raise ValueError(
            f"fpdist: attn_implementation=\"{IMPLEMENTATION}\" needs the pack's mask: call the model with subtree_end="
            "pack.subtree_end (fpdist.pack), or inside fpdist.shared_prefix"
        )
    if attention_mask is not None:
        raise ValueError("fpdist: subtree_end is the whole mask of a pack: leave out attention_mask")
    if query.shape[0] != 1:
        raise ValueError(f"fpdist: a pack is one row, the batch has {query.shape[0]}: put all trees into one pack")
    if key.shape[2] != query.shape[2]:
        raise ValueError("fpdist: keys of a cache cannot be seen from a pack: call the model with use_cache=False")
    if dropout > 0:
        raise ValueError(
            "fpdist: attention has no dropout: load the model with attention_dropout=0.0, or call model.eval()"
        )
    if softcap is not None:
        raise ValueError("fpdist: attention has no softcap: use this model without fpdist")
    if sliding_window is not None and (position_ids is None or position_ids.max() >= sliding_window):
        raise ValueError(
            f"fpdist: attention has no sliding window, and a row is longer than this layer's of {sliding_window} tokens:"
            " load the model with use_sliding_window=False, or shorten the rows"
        )
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return tree_attention(q, k, v, subtree_end, scale=scaling).unsqueeze(0), None


def _mask_as_given(*_, attention_mask=None, **__):
    """No mask is made; one that somebody passes reaches tree_attention_forward, which refuses it."""
    return attention_mask


transformers.AttentionInterface.register(IMPLEMENTATION, tree_attention_forward)
transformers.AttentionMaskInterface.register(IMPLEMENTATION, _mask_as_given)


class SharedPrefix:
    """Around forward and backward of a Llama, Qwen2 or Qwen3 model: every token that rows share is computed once.

      with fpdist.shared_prefix(model, input_ids, attention_mask):
          loss = loss_of(model(input_ids, attention_mask=attention_mask).logits)
          loss.backward()

    Prefixes are found from the tokens, at any depth, between any rows of the batch; padding may stand left or right.
    What the model returns has the padded batch's shape, and loss and gradients are as without: logits ([B, L, V], or what
    logits_to_keep asks for), the loss of labels, last_hidden_state, hidden_states. At padding they are 0 and carry no
    gradient. The head runs once for each token that is asked for. No cache comes back.

    model: a transformers model, bare or with a head, compiled by torch.compile, or inside PEFT's or a trainer's wrapper.
    input_ids, attention_mask: what the model will be called with. Left out, every call packs what it is given, and calls
    with a cache (model.generate) run as without: this is for trainers, which make their batches themselves.

    Backward belongs inside where the model uses gradient checkpointing: layers run again ask for the model's attention.
    The model's forward is replaced while inside, so one thread at a time.
    """

    def __init__(self, model, input_ids=None, attention_mask=None):
        self._outer = next((m for m in model.modules() if isinstance(m, transformers.PreTrainedModel)), None)
        if self._outer is None:
            raise TypeError(f"fpdist: {type(model).__name__} holds no transformers model: shared_prefix needs one")
        self._decoder = self._outer.base_model
        family = self._decoder.config.model_type
        if family not in FAMILIES:
            raise ValueError(f"fpdist: shared_prefix knows {', '.join(FAMILIES)}, not {family}: run this model without it")
        self._batch = (input_ids, attention_mask)
        #: The fpdist.Pack of the tokens given, or of the last call.
        self.pack = None if input_ids is None else pack(input_ids, attention_mask)
        self._replaced = []

    def __enter__(self):
        config = self._decoder.config
        if config._attn_implementation == IMPLEMENTATION:
            raise RuntimeError("fpdist: the model's attention is fpdist_tree already: leave the other shared_prefix first")
        self._implementation, config._attn_implementation = config._attn_implementation, IMPLEMENTATION
        self._replaced = [_Replaced(self._decoder, self._decoder_forward)]
        # A forward that somebody else has put there, as TRL's fused one, does with the hidden states what it likes.
        is_own = "forward" not in vars(self._outer) and "logits_to_keep" in inspect.signature(self._outer.forward).parameters
        if self._outer is not self._decoder and is_own:
            self._replaced.append(_Replaced(self._outer, self._head_forward))
        return self

    def __exit__(self, *_):
        for replaced in reversed(self._replaced):
            replaced.restore()
        self._decoder.config._attn_implementation = self._implementation

    def _decoder_forward(self, original, arguments):
        if "subtree_end" in arguments:  # from _head_forward
            return original(**arguments)
        if not self._take_pack(arguments):
            return self._run_plain(original, arguments)
        returns_dict = _takes_dict(arguments, self._decoder.config)
        output = original(**arguments, **self._on_pack(), return_dict=True)
        output.last_hidden_state = self._padded(output.last_hidden_state)
        self._pad_hidden_states(output)
        return output if returns_dict else output.to_tuple()

    def _head_forward(self, original, arguments):
        if not self._take_pack(arguments):
            return self._run_plain(original, arguments)
        labels, keep = arguments.pop("labels", None), arguments.pop("logits_to_keep", 0)
        returns_dict = _takes_dict(arguments, self._outer.config)
        wanted, index = _once(_columns(self.pack.row, keep))
        output = original(**arguments, **self._on_pack(), logits_to_keep=wanted, return_dict=True)
        output.logits = _spread(output.logits, index)
        self._pad_hidden_states(output)
        if labels is not None:
            output["loss"] = self._outer.loss_function(
                logits=output.logits, labels=labels, vocab_size=self._outer.config.vocab_size, **arguments)
            output.move_to_end("loss", last=False)
        return output if returns_dict else output.to_tuple()

    def _take_pack(self, arguments):
        """Takes the batch out of a call and makes it the pack; False for a call that is to run as it stands."""
        given_ids, given_mask = self._batch
        if arguments.get("past_key_values") is not None or arguments.get("use_cache"):
            if given_ids is None:
                return False
            raise ValueError("fpdist: a pack has no cache: call the model with use_cache=False and no past_key_values")
        for name, cure in _CURES.items():
            if arguments.get(name) is not None and arguments[name] is not False:
                raise ValueError(f"fpdist: {name} inside shared_prefix: {cure}")
        if getattr(self._decoder.config, "output_attentions", False):
            raise ValueError("fpdist: config.output_attentions inside shared_prefix: " + _CURES["output_attentions"])
        taken = [arguments.pop(name, None) for name in ("input_ids", "attention_mask", *_CURES, "past_key_values", "use_cache")]
        input_ids, attention_mask = taken[:2]
        if given_ids is None:
            self.pack = pack(input_ids, attention_mask)
        elif not (_same(input_ids, given_ids) and _same(attention_mask, given_mask)):
            raise ValueError(
                "fpdist: the model is called with another batch than shared_prefix was given: give it this one, or none,"
                " and every call packs its own"
            )
        return True

    def _on_pack(self):
        return dict(input_ids=self.pack.input_ids[None], position_ids=self.pack.position_ids[None],
                    subtree_end=self.pack.subtree_end, use_cache=False)

    def _run_plain(self, original, arguments):
        config = self._decoder.config
        config._attn_implementation = self._implementation
        try:
            return original(**arguments)
        finally:
            config._attn_implementation = IMPLEMENTATION

    def _padded(self, states):
        row = self.pack.row
        return _spread(states, torch.where(row < 0, states.shape[1], row))

    def _pad_hidden_states(self, output):
        if output.hidden_states is not None:
            output.hidden_states = tuple(self._padded(states) for states in output.hidden_states)


# What a call inside shared_prefix cannot have, and what to do instead.
_CURES = {
    "position_ids": "leave it out, a token's position is the number of tokens before it in its row",
    "inputs_embeds": "call the model with input_ids, prefixes are found from tokens",
    "output_attentions": "leave it out, attention's weights never exist",
}


class _Replaced:
    """A module's forward, replaced until restore() by run(original, arguments by name)."""

    def __init__(self, module, run):
        self._module, self._own = module, module.__dict__.get("forward")
        original, self._is_active = module.forward, True
        signature = inspect.signature(original)

        @functools.wraps(original)
        def forward(*args, **kwargs):
            if not self._is_active:  # who wrapped this forward meanwhile still calls it
                return original(*args, **kwargs)
            arguments = dict(signature.bind(*args, **kwargs).arguments)
            arguments.update(arguments.pop("kwargs", {}))
            return run(original, arguments)

        # torch.compile compiles what it calls, the model on a pack; finding one's way there is not for graphs.
        self._forward = module.forward = torch.compiler.disable(forward, recursive=False)

    def restore(self):
        self._is_active = False
        if self._module.__dict__.get("forward") is not self._forward:
            return
        if self._own is None:
            del self._module.forward
        else:
            self._module.forward = self._own


def _takes_dict(arguments, config):
    asked = arguments.pop("return_dict", None)
    return getattr(config, "return_dict", True) if asked is None else asked


def _same(a, b):
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _columns(row, keep):
    """What logits_to_keep leaves of row [B, L]: the last columns, columns, columns of each row, or a mask's places."""
    if isinstance(keep, int):
        return row[:, -keep:]
    if keep.dim() == 1:
        return row[:, keep]
    return row[keep] if keep.dtype == torch.bool else row.gather(1, keep)


def _once(row):
    """(the rows of the pack that stand in `row`, each once and ascending; for each place of `row` which of them it is, and
    their number for padding)"""
    is_token = row >= 0
    wanted, place = row[is_token].unique(return_inverse=True)
    index = torch.full_like(row, len(wanted))
    index[is_token] = place
    return wanted, index


def _spread(states, index):
    """states [1, n, W], index [...] in [0, n] -> [..., W], 0 where the index is n."""
    states = states[0]
    if (index == len(states)).any():
        states = torch.cat([states, states.new_zeros(1, states.shape[1])])
    return states.index_select(0, index.reshape(-1)).view(*index.shape, states.shape[1])
