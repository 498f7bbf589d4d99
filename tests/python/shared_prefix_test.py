"""fpdist.shared_prefix against the same model without it, in float64, for every family: losses, logits, all gradients."""

import itertools
import unittest

from support import skip_without

torch, transformers = skip_without("torch", "transformers")

import fpdist
from fpdist.hugging_face import IMPLEMENTATION

FAMILIES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, transformers.LlamaForSequenceClassification),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, transformers.Qwen2ForSequenceClassification),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, transformers.Qwen3ForSequenceClassification),
}
PAD = 0
# Rows of each batch by name; tokens above PAD.
BATCHES = {
    "pairs": [[5, 6, 7, 8, 1], [5, 6, 7, 9, 2, 3], [4, 4, 4, 1, 1, 1, 1], [4, 4, 2]],
    "identical rows": [[5, 6, 7], [5, 6, 7], [5, 6, 7]],
    "one row the start of another": [[5, 6, 7, 8], [5, 6], [5, 6, 7, 8, 9, 9]],
    "nothing shared": [[1, 2, 3], [2, 2, 3], [3, 2, 3, 4]],
    "rows of one token": [[3], [3], [4]],
    "three levels": [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 6], [1, 2, 3, 7], [1, 2, 8, 8], [1, 2, 8, 9], [9, 9]],
    "one row": [[1, 2, 3, 4]],
    "an empty row": [[1, 2, 3], [], [1, 2]],
}


def make(family, head=1, **config):
    torch.manual_seed(0)
    small = dict(vocab_size=31, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=6, pad_token_id=PAD, attention_bias=True)
    model = FAMILIES[family][head](FAMILIES[family][0](**{**small, **config})).double()
    for parameter in model.parameters():  # biases and norms too are worth a test
        parameter.data += 0.1 * torch.randn_like(parameter)
    return in_float64(model)


def in_float64(model):
    """transformers computes norms and rotary angles in float32, whatever the model's dtype: not here."""

    def norm(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    def rotary(self, x, position_ids):
        half = torch.arange(0, 6, 2, dtype=torch.float64)
        angle = position_ids[..., None].double() * 10000.0 ** (-half / 6)
        angle = torch.cat([angle, angle], -1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = norm.__get__(module)
        elif type(module).__name__.endswith("RotaryEmbedding"):
            module.forward = rotary.__get__(module)
    return model


def padded(rows, side):
    width = max(map(len, rows))
    fill = lambda row, value: [value] * (width - len(row)) if len(row) < width else []
    ids = [fill(r, PAD) + r if side == "left" else r + fill(r, PAD) for r in rows]
    mask = [fill(r, 0) + [1] * len(r) if side == "left" else [1] * len(r) + fill(r, 0) for r in rows]
    return torch.tensor(ids), torch.tensor(mask)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class Case(unittest.TestCase):
    def assert_close(self, a, b, where=""):
        self.assertEqual(a.shape, b.shape, where)
        if a.numel():
            self.assertLess((a - b).abs().max().item(), 1e-10, where)

    def assert_same_gradients(self, a, b):
        self.assertEqual(a.keys(), b.keys())
        for name in a:
            self.assert_close(a[name], b[name], name)

    def check(self, model, called, rows, side):
        ids, mask = padded(rows, side)
        there = mask.bool()
        weight = torch.randn(*ids.shape, 31, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        loss_of = lambda logits: ((logits.log_softmax(-1) * weight)[there]).sum()
        plain = model(ids, attention_mask=mask).logits
        expected = gradients(model, loss_of(plain))
        with fpdist.shared_prefix(called, ids, mask):
            logits = called(ids, attention_mask=mask).logits
            found = gradients(model, loss_of(logits))
        self.assert_close(logits[there], plain[there])
        self.assertEqual(logits[~there].abs().sum(), 0)
        self.assert_same_gradients(found, expected)


class Equality(Case):
    def test_logits_and_gradients_of_every_family_on_odd_trees(self):
        for family, (name, rows), side in itertools.product(FAMILIES, BATCHES.items(), ("left", "right")):
            if side == "left" and name == "an empty row":
                continue  # plain transformers gives NaN there
            with self.subTest(family=family, batch=name, side=side):
                model = make(family)
                self.check(model, model, rows, side)

    def test_compiled_models_before_inside_and_after(self):
        for family in FAMILIES:
            torch._dynamo.reset()
            model = make(family, num_hidden_layers=1)
            compiled = torch.compile(model, backend="aot_eager")
            ids, mask = padded(BATCHES["pairs"], "right")
            before = compiled(ids, attention_mask=mask).logits
            odd = [("identical rows", "left"), ("one row the start of another", "right"), ("rows of one token", "left")]
            for name, side in [("pairs", "right"), ("three levels", "left"), *(odd if family == "llama" else [])]:
                with self.subTest(family=family, batch=name, side=side):
                    self.check(model, compiled, BATCHES[name], side)
            self.assert_close(compiled(ids, attention_mask=mask).logits[mask.bool()], before[mask.bool()])


class Calls(Case):
    """What else a call may ask for."""

    def setUp(self):
        self.model = make("llama")
        self.ids, self.mask = padded(BATCHES["three levels"], "right")
        self.batch = dict(input_ids=self.ids, attention_mask=self.mask)

    def shared(self, model=None):
        return fpdist.shared_prefix(model or self.model, self.ids, self.mask)

    def test_labels_give_the_same_loss(self):
        labels = self.ids.masked_fill(self.mask == 0, -100)
        for extra in ({}, {"num_items_in_batch": 7}):
            plain = self.model(**self.batch, labels=labels, **extra)
            with self.shared():
                output = self.model(**self.batch, labels=labels, **extra)
                self.assert_same_gradients(gradients(self.model, output.loss), gradients(self.model, plain.loss))
                parts = self.model(**self.batch, labels=labels, return_dict=False)
            self.assert_close(output.loss, plain.loss)
            self.assert_close(output[0], plain.loss)  # as the tuple it may be taken for
            self.assertEqual(len(parts), 2)

    def test_logits_to_keep_in_every_form(self):
        batch, columns = self.ids.shape
        there = self.mask.bool()
        for keep in (0, 3, torch.tensor([1, 4]), torch.tensor([[0, 2]] * batch), there):
            plain = self.model(**self.batch, logits_to_keep=keep).logits
            with self.shared():
                logits = self.model(**self.batch, logits_to_keep=keep).logits
            self.assertEqual(logits.shape, plain.shape)
            is_token = logits.abs().sum(-1) != 0
            self.assertTrue(is_token.any())
            self.assert_close(logits[is_token], plain[is_token])

    def test_the_head_sees_every_token_once(self):
        seen = []
        self.model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
        with self.shared() as shared:
            self.model(**self.batch)
            self.model(**self.batch, logits_to_keep=1)
        self.assertEqual(seen, [len(shared.pack.input_ids), 1])
        self.assertLess(seen[0], self.mask.sum())

    def test_hidden_states_are_padded_too(self):
        for model in (self.model, self.model.model):
            plain = model(**self.batch, output_hidden_states=True).hidden_states
            with self.shared(model):
                states = model(**self.batch, output_hidden_states=True).hidden_states
            self.assertEqual(len(states), len(plain))
            for a, b in zip(states, plain):
                self.assert_close(a[self.mask.bool()], b[self.mask.bool()])

    def test_the_model_without_its_head(self):
        inner = self.model.model
        plain = inner(**self.batch).last_hidden_state
        with self.shared(inner):
            self.assert_close(inner(**self.batch)[0][self.mask.bool()], plain[self.mask.bool()])
            self.assert_close(inner(**self.batch, return_dict=False)[0][self.mask.bool()], plain[self.mask.bool()])

    def test_reward_models_of_every_family(self):
        for family in FAMILIES:
            model = make(family, head=2, num_labels=1)
            plain = model(**self.batch).logits
            expected = gradients(model, plain.square().sum())
            with self.shared(model):
                logits = model(**self.batch).logits
                found = gradients(model, logits.square().sum())
            self.assert_close(logits, plain)
            self.assert_same_gradients(found, expected)

    def test_gradient_checkpointing(self):
        labels = self.ids.masked_fill(self.mask == 0, -100)
        for reentrant in (False, True):
            self.model.train()
            self.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            self.model.enable_input_require_grads()
            expected = gradients(self.model, self.model(**self.batch, labels=labels, use_cache=False).loss)
            with self.shared():
                found = gradients(self.model, self.model(**self.batch, labels=labels).loss)
            self.assert_same_gradients(found, expected)

    def test_without_a_batch_every_call_packs_its_own_and_generation_runs_as_it_would(self):
        other_ids, other_mask = padded(BATCHES["pairs"], "left")
        expected = self.model.generate(other_ids, attention_mask=other_mask, max_new_tokens=4, do_sample=False)
        plain = [self.model(**self.batch).logits, self.model(other_ids, other_mask).logits]
        with fpdist.shared_prefix(self.model) as shared:
            for logits, ids, mask in zip(plain, (self.ids, other_ids), (self.mask, other_mask)):
                self.assert_close(self.model(ids, mask).logits[mask.bool()], logits[mask.bool()])
                self.assertLess(len(shared.pack.input_ids), mask.sum())
            found = self.model.generate(other_ids, attention_mask=other_mask, max_new_tokens=4, do_sample=False)
        self.assertTrue(torch.equal(found, expected))

    def test_the_model_is_as_before_after_it(self):
        before = (self.model.config._attn_implementation, self.model.__dict__.get("forward"))
        plain = self.model(**self.batch).logits
        with self.assertRaises(KeyError), self.shared():
            raise KeyError
        self.assertEqual((self.model.config._attn_implementation, self.model.__dict__.get("forward")), before)
        self.assertTrue(torch.equal(self.model(**self.batch).logits, plain))

    def test_a_forward_wrapped_inside_outlives_it(self):
        plain = self.model(**self.batch).logits
        with self.shared():
            inner = self.model.forward
            self.model.forward = lambda *args, **kwargs: inner(*args, **kwargs)  # as accelerate does
        self.assertTrue(torch.equal(self.model(**self.batch).logits, plain))

    def test_a_forward_that_somebody_else_has_put_there(self):
        head = self.model.lm_head
        self.model.forward = lambda input_ids, attention_mask, words="", logits_to_keep=0: (
            head(self.model.model(input_ids, attention_mask=attention_mask).last_hidden_state), words)
        plain, _ = self.model(**self.batch)
        with self.shared():
            logits, words = self.model(**self.batch, words="kept")
        self.assertEqual(words, "kept")
        self.assert_close(logits[self.mask.bool()], plain[self.mask.bool()])

    def test_packed_by_hand(self):
        model = make("qwen3", attn_implementation=IMPLEMENTATION)
        packed = fpdist.pack(self.ids, self.mask)
        logits = model(input_ids=packed.input_ids[None], position_ids=packed.position_ids[None],
                       subtree_end=packed.subtree_end, use_cache=False).logits
        expected = make("qwen3")(**self.batch).logits
        self.assert_close(logits[0][packed.row[self.mask.bool()]], expected[self.mask.bool()])

    def test_autocast(self):
        model = make("llama").float()
        with torch.autocast("cpu", torch.bfloat16):
            plain = model(**self.batch).logits
            with self.shared(model):
                logits = model(**self.batch).logits
        self.assertLess((logits - plain)[self.mask.bool()].abs().max(), 0.05)


class Refusals(Case):
    def setUp(self):
        self.ids, self.mask = padded(BATCHES["pairs"], "right")
        self.batch = dict(input_ids=self.ids, attention_mask=self.mask)

    def assert_refused(self, words, model, error=ValueError, **call):
        with self.assertRaisesRegex(error, words), fpdist.shared_prefix(model, self.ids, self.mask):
            model(**{**self.batch, **call})

    def test_what_a_pack_cannot_have(self):
        model = make("llama")
        cache = transformers.DynamicCache(config=model.config)
        self.assert_refused("use_cache=False", model, use_cache=True)
        self.assert_refused("use_cache=False", model, past_key_values=cache)
        self.assert_refused("output_attentions .* leave it out", model, output_attentions=True)
        self.assert_refused("position_ids .* leave it out", model, position_ids=self.ids)
        self.assert_refused("inputs_embeds .* with input_ids", model, inputs_embeds=self.ids)
        self.assert_refused("another batch", model, input_ids=self.ids + 1)
        self.assert_refused("another batch", model, attention_mask=None)

    def test_dropout(self):
        model = make("llama", attention_dropout=0.1).train()
        self.assert_refused(r"attention_dropout=0.0, or call model.eval\(\)", model)
        with fpdist.shared_prefix(model.eval(), self.ids, self.mask):
            model(**self.batch)

    def test_a_window_that_a_row_outgrows(self):
        window = dict(use_sliding_window=True, max_window_layers=1, layer_types=["full_attention", "sliding_attention"])
        self.assert_refused("window.*use_sliding_window=False", make("qwen2", sliding_window=6, **window))
        model = make("qwen2", sliding_window=7, **window)
        plain = model(**self.batch).logits
        with fpdist.shared_prefix(model, self.ids, self.mask):
            self.assert_close(model(**self.batch).logits[self.mask.bool()], plain[self.mask.bool()])

    def test_models_that_it_does_not_know(self):
        gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=31))
        self.assert_refused("llama, qwen2, qwen3, not gpt2", gpt)
        self.assert_refused("holds no transformers model", torch.nn.Linear(2, 2), TypeError)

    def test_a_context_inside_another(self):
        model = make("llama")
        with fpdist.shared_prefix(model, self.ids, self.mask):
            self.assert_refused("already", model, RuntimeError)
            model(**self.batch)

    def test_attention_without_a_pack(self):
        model = make("llama", attn_implementation=IMPLEMENTATION)
        packed = fpdist.pack(self.ids, self.mask)
        call = dict(input_ids=packed.input_ids[None], position_ids=packed.position_ids[None],
                    subtree_end=packed.subtree_end, use_cache=False)
        for change, words in (
            ({"subtree_end": None}, "call the model with subtree_end"),
            ({"attention_mask": torch.ones_like(packed.input_ids[None])}, "leave out attention_mask"),
            ({"input_ids": packed.input_ids.expand(2, -1)}, "the batch has 2: put all trees into one pack"),
        ):
            with self.subTest(words=words), self.assertRaisesRegex(ValueError, words):
                model(**{**call, **change})
        cache = transformers.DynamicCache(config=model.config)
        model(**call, past_key_values=cache)
        with self.assertRaisesRegex(ValueError, "use_cache=False"):
            model(**call, past_key_values=cache)


if __name__ == "__main__":
    unittest.main()
