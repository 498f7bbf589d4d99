#!/usr/bin/env python3
"""A Llama of transformers, forward + backward of one GRPO group on the CPU: fpdist.shared_prefix beside the others.

  python3 bench/shared_prefix_peers.py --prefix-grouper DIR --flash-preference DIR --transformers-4 DIR
      [--rounds 3] [--threads 2] [--layers 4] [--dtype float32 bfloat16] [--shapes 1024,128,2 ...] [--json FILE]

  ours    fpdist.shared_prefix, from BUILD/python            plain   the same model without it, scaled_dot_product_attention
  flash   flash-preference's shared_prefix, which un-shares around attention where there is no FlashAttention 2
  grouper PrefixGrouper, its two calls of scaled_dot_product_attention in each layer

DIR are checkouts of github.com/li-plus/flash-preference and github.com/johncaged/PrefixGrouper, and a folder that
`pip install --target DIR --no-deps transformers==4.51.3 'tokenizers<0.22' 'huggingface_hub<1' safetensors regex` has
filled: flash-preference knows no transformers after 4.51. Arms whose folders are not given stay out. The others run on
the Python path's transformers (launch/setup.sh --with-transformers fetches 5.23).

Every arm's process has the same environment (step_peers.py) and the same weights, and gets the head's rows of the
completions alone. Finding the prefixes is inside the time. Every round runs all arms one after the other. Prints medians of wall and
processor milliseconds, and ours over the best other arm that shares.
"""
import os
import statistics
import sys
import time

import step_peers

SHAPES = ["1024,128,2", "1024,128,8", "512,512,8", "256,64,16"]  # prefix, completion, group
HIDDEN, INNER, HEADS, KEY_HEADS, VOCAB = 512, 1536, 8, 4, 8192


def make_model(layers, dtype):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(hidden_size=HIDDEN, intermediate_size=INNER, num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS,
                         vocab_size=VOCAB, num_hidden_layers=layers, max_position_embeddings=4096, use_cache=False)
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.02, generator=generator)
    return model.to(getattr(torch, dtype))


class Group:
    """P tokens of a prompt and G completions of R tokens, as a batch of rows."""

    def __init__(self, prefix, completion, group):
        import torch

        generator = torch.Generator().manual_seed(1)
        self.prefix, self.completion, self.group = prefix, completion, group
        self.prompt = torch.randint(VOCAB, (1, prefix), generator=generator)
        self.answers = torch.randint(VOCAB, (group, completion), generator=generator)
        self.ids = torch.cat([self.prompt.expand(group, -1), self.answers], 1)
        self.mask = torch.ones_like(self.ids)

    def call(self, model):
        """[G, R, V]: what predicts the completions' tokens."""
        return model(self.ids, attention_mask=self.mask, logits_to_keep=self.completion + 1).logits[:, :-1]


def plain(model, group, finish):
    finish(group.call(model))


def ours(model, group, finish):
    import fpdist

    with fpdist.shared_prefix(model, group.ids, group.mask):
        finish(group.call(model))


def flash(model, group, finish):
    from shared_prefix import shared_prefix

    with shared_prefix(model, input_ids=group.ids, attention_mask=group.mask, group_size=group.group):
        finish(group.call(model))


def grouper_attention(module, query, key, value, attention_mask, *, prefix_grouper, scaling, **_):
    """PrefixGrouper's decomposition over torch's attention: its own masks are for FlashAttention's padding alone."""
    import torch
    from prefix_grouper.forward import AttentionForward

    def attend(q, k, v, padding):
        mask = None
        if k.shape[2] > q.shape[2]:
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True).transpose(1, 2)

    return AttentionForward(attend)(prefix_grouper, query, key, value), None


def grouper(model, group, finish):
    import torch
    from prefix_grouper import PrefixGrouper
    from transformers import AttentionInterface

    AttentionInterface.register("grouper", grouper_attention)
    model.config._attn_implementation = "grouper"
    masks = torch.ones_like(group.prompt), torch.ones_like(group.answers)
    grouped = PrefixGrouper.from_ungrouped_masks(*masks, group_sizes=group.group, device="cpu")
    join = lambda prefix, suffix: grouped.concat_input(prefix, masks[0], suffix, masks[1])
    position = group.prefix + torch.arange(group.completion).expand(group.group, -1)
    states = model.model(input_ids=join(group.prompt, group.answers), prefix_grouper=grouped,
                         position_ids=join(torch.arange(group.prefix)[None], position)).last_hidden_state
    finish(model.lm_head(grouped.split_output(states, include_prefix_last=1)[2][:, :-1]))


ARMS = {"ours": ours, "plain": plain, "flash": flash, "grouper": grouper}


def serve(threads, layers, dtype):
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(int(threads))
    model = make_model(int(layers), dtype)

    def run(arm, shape):
        group, logp = Group(*shape), None
        advantage = torch.where(torch.arange(group.group) % 2 == 1, 1.0, -1.0).repeat_interleave(group.completion)
        model.zero_grad(set_to_none=False)

        def finish(logits):
            nonlocal logp
            logp = -F.cross_entropy(logits.reshape(-1, VOCAB).float(), group.answers.flatten(), reduction="none")
            (-(torch.exp(logp - logp.detach()) * advantage).mean()).backward()

        wall, cpu = time.perf_counter(), time.process_time()
        ARMS[arm](model, group, finish)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        gradient = sum(p.grad.double().square().sum() for p in model.parameters()).sqrt()
        return wall, cpu, logp.double().mean().item(), gradient.item()

    step_peers.answer(run)


def start(options, dtype, environment):
    """Arm -> its process."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    torch = f"{root}/.deps/python"
    newest = [*environment.get("PYTHONPATH", "").split(":"), f"{root}/{options.build}/python", f"{root}/.deps/transformers/site-packages", torch]
    paths = {"ours": newest, "plain": newest}
    if options.prefix_grouper:
        paths["grouper"] = [f"{options.prefix_grouper}/src", *newest]
    if options.flash_preference and options.transformers_4:
        # Its file and not its package, which imports trainers of a TRL of that time.
        paths["flash"] = [options.transformers_4, f"{options.flash_preference}/flash_pref", torch]
    return {arm: step_peers.Server([__file__, "--serve", options.threads, options.layers, dtype],
                                   {**environment, "PYTHONPATH": ":".join(path)},
                                   "run launch/setup.sh --with-transformers, and see --help")
            for arm, path in paths.items()}


def check(arms, dtype):
    """All arms are one computation, or the comparison is none."""
    figures = {arm: server.run(arm, (40, 16, 3))[2:] for arm, server in arms.items()}
    most = 1e-5 if dtype == "float32" else 3e-2
    for arm, figure in figures.items():
        if any(abs(a - b) > most * abs(b) for a, b in zip(figure, figures["plain"])):
            sys.exit(f"the arms' log-probabilities and gradient norms differ: {figures}")


def measure(options, dtype, shape, arms):
    for arm, server in arms.items():
        server.run(arm, shape)  # warm-up
    rounds = [{arm: server.run(arm, shape)[:2] for arm, server in arms.items()} for _ in range(options.rounds)]
    others = [arm for arm in arms if arm not in ("ours", "plain")] or ["plain"]
    faster = [statistics.median(min(r[arm][i] for arm in others) / r["ours"][i] for r in rounds) for i in range(2)]
    return dict(step_peers.report(dtype, shape, rounds, "best other/ours", faster), others_over_ours=faster[0],
                others_over_ours_cpu=faster[1])


def main():
    if sys.argv[1:2] == ["--serve"]:
        return serve(*sys.argv[2:5])
    parser = step_peers.parser_of(__doc__, SHAPES)
    parser.add_argument("--prefix-grouper", metavar="DIR")
    parser.add_argument("--flash-preference", metavar="DIR")
    parser.add_argument("--transformers-4", metavar="DIR")
    options = parser.parse_args()

    def checked(dtype, environment):
        arms = start(options, dtype, environment)
        check(arms, dtype)
        return arms

    step_peers.run_cells(options, checked, lambda dtype, shape, arms: measure(options, dtype, shape, arms))


if __name__ == "__main__":
    main()
