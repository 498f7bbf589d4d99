"""fpdist.shared_prefix in a model that torch.compile's own compiler has compiled: 22 kernels, 40 s, so label long."""

import unittest

from shared_prefix_test import BATCHES, Case, make, torch


class Inductor(Case):
    def test_logits_and_gradients(self):
        torch._dynamo.reset()
        model = make("llama", num_hidden_layers=1)
        self.check(model, torch.compile(model), BATCHES["pairs"], "right")


if __name__ == "__main__":
    unittest.main()
