"""The operators from Python: torch.ops.load_library(libfpdist.so) and gradcheck in float64. argv: the library."""

import sys

try:
    import torch
except Exception as error:  # the CPU half alone lacks the CUDA libraries that the Python side loads
    print(f"SKIPPED: this machine's torch cannot be imported from Python: {error}")
    sys.exit(77)

torch.ops.load_library(sys.argv[1])
ops = torch.ops.fpdist
torch.manual_seed(0)


def random(*sizes):
    return torch.randn(*sizes, dtype=torch.double, requires_grad=True)


def dense_attention(q, k, v, row, end, scale):
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    visible = (row[None] <= row[:, None]) & (row[:, None] < end[None])
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~visible, float("-inf")).softmax(-1), v)


def check_attention():
    row = torch.arange(13, dtype=torch.int32)
    end = torch.tensor([9] * 3 + [7] * 2 + [6, 7] + [9] * 2 + [13] * 2 + [12, 13], dtype=torch.int32)
    q, k, v = random(13, 4, 5), random(13, 2, 5), random(13, 2, 5)
    attend = lambda q, k, v: ops.tree_attention(q, k, v, row, row, end, 0.4)[0]
    assert (attend(q, k, v) - dense_attention(q, k, v, row, end, 0.4)).abs().max() < 1e-12
    assert torch.autograd.gradcheck(attend, (q, k, v))
    assert not ops.tree_attention(q, k, v, row, row, end, 0.4)[1].requires_grad


def check_logprob():
    hidden, weight = random(5, 6), random(7, 6)
    row, target = torch.tensor([0, 0, 2, 4, 4]), torch.tensor([1, 3, 6, 0, 0])
    both = lambda h, w: ops.selected_logprob(h, w, row, target, 0.7)[:2]
    assert torch.autograd.gradcheck(both, (hidden, weight))
    expected = torch.log_softmax(hidden @ weight.T / 0.7, -1)[row, target]
    assert (both(hidden, weight)[0] - expected).abs().max() < 1e-12


def check_linear():
    x, weight, bias = random(5, 6), random(7, 6), random(7)
    assert torch.autograd.gradcheck(ops.linear, (x, weight, bias))
    residual = random(5, 7)
    assert torch.autograd.gradcheck(lambda x, w, r: ops.linear(x, w, residual=r), (x, weight, residual))
    assert torch.autograd.gradcheck(lambda x, w, b, r: ops.linear(x, w, b, residual=r), (x, weight, bias, residual))
    assert (ops.linear(x, weight, bias, residual=residual) - (x @ weight.T + bias + residual)).abs().max() < 1e-12
    main_grad = torch.zeros_like(weight)
    ops.linear(x.detach(), weight, None, main_grad).sum().backward()
    assert weight.grad is None
    assert (main_grad - x.detach().sum(0).expand(7, 6)).abs().max() < 1e-12


def check_pointwise():
    x, angle = random(5, 2, 6), torch.randn(5, 3, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: ops.rotary(x, angle.cos(), angle.sin()), (x,))
    assert torch.autograd.gradcheck(ops.swiglu, (random(5, 6), random(5, 6)))
    assert torch.autograd.gradcheck(lambda x: ops.keyed_dropout(x, torch.arange(5), 3, 0.4), (random(5, 6),))
    assert torch.autograd.gradcheck(lambda x, w: ops.rms_norm(x, w, 1e-6), (random(5, 6), random(6)))


def check_errors_are_raised():
    try:
        ops.swiglu(torch.randn(2, 3), torch.randn(2, 4))
    except RuntimeError as error:
        assert "swiglu" in str(error)
    else:
        raise AssertionError("a wrong shape went through")


for check in (check_attention, check_logprob, check_linear, check_pointwise, check_errors_are_raised):
    check()
    print("passed", check.__name__)
