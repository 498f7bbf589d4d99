"""The package without transformers: packs against their definition, operators in graphs, the stub against the source."""

import ast
import importlib.util
import inspect
import pathlib
import random
import unittest

from support import skip_without

(torch,) = skip_without("torch")

import fpdist


def random_rows(rng):
    """Rows that share, of two tokens mostly."""
    return [[rng.randrange(1, 3) for _ in range(rng.randrange(0, 9))] for _ in range(rng.randrange(1, 9))]


def padded(rows, side):
    width = max(1, *map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for batch_row, row in enumerate(rows):
        begin = width - len(row) if side == "left" else 0
        ids[batch_row, begin : begin + len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[batch_row, begin : begin + len(row)] = 1
    return ids, mask


compiles = unittest.skipUnless(
    importlib.util.find_spec("sympy") and importlib.util.find_spec("filelock"),
    "torch.compile needs sympy and filelock: launch/setup.sh --with-transformers fetches them too")


class Packs(unittest.TestCase):
    def test_every_distinct_prefix_stands_once_and_sees_what_it_continues(self):
        rng = random.Random(7)
        for turn in range(200):
            rows = random_rows(rng)
            if not any(rows):
                continue
            ids, mask = padded(rows, rng.choice(["left", "right"]))
            with self.subTest(rows=rows):
                self.check(rows, fpdist.pack(ids, mask), mask)

    def check(self, rows, packed, mask):
        self.assertEqual(len(packed.input_ids), len({tuple(row[: n + 1]) for row in rows for n in range(len(row))}))
        self.assertTrue(torch.equal(packed.row < 0, mask == 0))
        at = torch.arange(len(packed.input_ids), dtype=torch.int32)
        sees = (at <= at[:, None]) & (at[:, None] < packed.subtree_end)
        for batch_row, row in enumerate(rows):
            places = packed.row[batch_row][mask[batch_row] != 0]
            self.assertEqual(packed.input_ids[places].tolist(), row)
            self.assertEqual(packed.position_ids[places].tolist(), list(range(len(row))))
            for depth, place in enumerate(places):
                self.assertEqual(sees[place].nonzero().flatten().tolist(), places[: depth + 1].tolist())

    def test_without_a_mask_every_position_is_a_token(self):
        packed = fpdist.pack(torch.tensor([[0, 1], [0, 2]]))
        self.assertEqual(packed.input_ids.tolist(), [0, 1, 2])
        self.assertEqual(packed.subtree_end.tolist(), [3, 2, 3])
        self.assertEqual(packed.subtree_end.dtype, torch.int32)

    def test_refusals_name_the_row_and_the_cure(self):
        ids = torch.tensor([[1, 2, 3], [1, 2, 3]])
        for call, words in (
            (lambda: fpdist.pack(ids, torch.tensor([[1, 1, 1], [1, 0, 1]])), "row 1 has a hole"),
            (lambda: fpdist.pack(ids, torch.zeros_like(ids)), "no tokens"),
            (lambda: fpdist.pack(ids, torch.ones(2, 2)), r"shape \(2, 2\), input_ids \(2, 3\)"),
            (lambda: fpdist.pack(ids[0]), r"needs \[rows, columns\]"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                call()


class Operators(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        ids = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6], [1, 7, 7, 8], [2, 2, 2, 2]])
        self.end = fpdist.pack(ids).subtree_end
        self.q, self.k, self.v = (torch.randn(len(self.end), heads, 8, dtype=torch.float64, requires_grad=True)
                                  for heads in (4, 2, 2))

    def gradients(self, function, *inputs):
        return torch.autograd.grad(function(*inputs).square().sum(), inputs)

    def assert_same_when_compiled(self, function, *inputs):
        for dynamic in (False, True):
            torch._dynamo.reset()
            compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend="aot_eager")
            self.assertLess((compiled(*inputs) - function(*inputs)).abs().max().item(), 1e-12)
            for found, expected in zip(self.gradients(compiled, *inputs), self.gradients(function, *inputs)):
                self.assertLess((found - expected).abs().max().item(), 1e-12)

    def test_attention_is_softmax_over_what_a_row_sees(self):
        at = torch.arange(len(self.end))
        sees = (at <= at[:, None]) & (at[:, None] < self.end)
        k, v = (x.repeat_interleave(2, 1).transpose(0, 1) for x in (self.k, self.v))
        expected = torch.nn.functional.scaled_dot_product_attention(self.q.transpose(0, 1), k, v, attn_mask=sees)
        found = fpdist.tree_attention(self.q, self.k, self.v, self.end)
        self.assertLess((found - expected.transpose(0, 1)).abs().max().item(), 1e-12)

    def test_attention_over_some_of_the_rows(self):
        rows = torch.tensor([1, 4, 5], dtype=torch.int32)
        whole = fpdist.tree_attention(self.q, self.k, self.v, self.end, scale=0.3)
        some = fpdist.tree_attention(self.q[rows], self.k, self.v, self.end, q_row=rows, scale=0.3)
        self.assertLess((some - whole[rows]).abs().max().item(), 1e-12)

    @compiles
    def test_attention_in_a_graph(self):
        self.assert_same_when_compiled(
            lambda q, k, v: 2 * fpdist.tree_attention(2 * q, k, v, self.end), self.q, self.k, self.v)

    @compiles
    def test_logprob_in_a_graph(self):
        row, target = torch.tensor([0, 0, 2, 4, 4]), torch.tensor([1, 3, 6, 0, 0])
        hidden, weight = (torch.randn(n, 6, dtype=torch.float64, requires_grad=True) for n in (5, 7))
        score = lambda hidden, weight: fpdist.selected_logprob(2 * hidden, weight, row, target, temperature=0.7)
        expected = torch.log_softmax(2 * hidden @ weight.T / 0.7, -1)[row, target]
        self.assertLess((score(hidden, weight).logp - expected).abs().max().item(), 1e-12)
        self.assert_same_when_compiled(lambda h, w: score(h, w).logp.sum() + score(h, w).entropy, hidden, weight)

    @compiles
    def test_what_a_graph_is_made_with_is_checked_too(self):
        torch._dynamo.reset()
        with self.assertRaisesRegex(Exception, "int32"):
            torch.compile(fpdist.tree_attention, backend="aot_eager")(self.q, self.k, self.v, self.end.long())


class Stub(unittest.TestCase):
    def test_the_stub_says_what_the_source_says(self):
        stub = ast.parse(pathlib.Path(inspect.getfile(fpdist)).with_suffix(".pyi").read_text())
        functions = {node.name: node.args for node in stub.body if isinstance(node, ast.FunctionDef)}
        classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
        self.assertEqual(set(fpdist.__all__) - {"__version__"} | {"SharedPrefix"}, {*functions, *classes})
        for name, args in functions.items():
            parameters = inspect.signature(getattr(fpdist, name)).parameters
            self.assertEqual([arg.arg for arg in args.args + args.kwonlyargs], list(parameters), name)
            self.assertTrue(getattr(fpdist, name).__doc__, name)
        for name in ("Pack", "SelectedLogprob"):
            fields = tuple(node.target.id for node in classes[name].body)
            self.assertEqual(fields, getattr(fpdist, name)._fields)


if __name__ == "__main__":
    unittest.main()
