// The CPU's tiled attention on every instruction set that this machine has, held against float64.
#include "kernels/tree_attention/blocked/blocked_attention.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "kernels/tree_attention/merge.hpp"
#include "kernels/tree_attention/tree_attention.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist {
namespace {

using kernels::AttentionGradients, kernels::AttentionInputs, kernels::AttentionMask, kernels::AttentionOutput,
    kernels::BlockedKernel;

/// Those that can run here; the widest of words of float and of bfloat16 are among them wherever there is any.
std::vector<const BlockedKernel*> kernels_here() {
  std::vector<const BlockedKernel*> here;
  for (const BlockedKernel* kernel :
       {kernels::blocked_kernel_avx2(), kernels::blocked_kernel_avx512(), kernels::blocked_kernel_avx512_bf16()})
    if (kernels::can_run(kernel)) here.push_back(kernel);
  return here;
}

struct Shape {
  int64_t key_heads = 2, group = 2, head_size = 64;
};

struct Case {
  AttentionInputs in;
  AttentionMask mask;
  at::Tensor grad;
  kernels::AttentionOptions options;
};

/// Values that bfloat16 holds, so that what it loses is the kernel's doing.
Case make_case(const std::vector<int32_t>& end, const std::vector<int32_t>& q_row, const std::vector<int32_t>& k_row,
               const Shape& shape, at::ScalarType dtype) {
  std::vector<int32_t> k_end;
  for (const int32_t row : k_row) k_end.push_back(end[static_cast<size_t>(row)]);
  const auto tensor = [&](size_t rows, int64_t heads) {
    return at::randn({static_cast<int64_t>(rows), heads, shape.head_size}, at::kFloat).to(at::kBFloat16).to(dtype);
  };
  const int64_t heads = shape.key_heads * shape.group;
  const AttentionInputs in{tensor(q_row.size(), heads), tensor(k_row.size(), shape.key_heads),
                           tensor(k_row.size(), shape.key_heads)};
  return {.in = in,
          .mask = {test::int_tensor(q_row), test::int_tensor(k_row), test::int_tensor(k_end)},
          .grad = tensor(q_row.size(), heads),
          .options = {.scale = 1 / std::sqrt(static_cast<double>(shape.head_size))}};
}

struct Result {
  AttentionOutput output;
  AttentionGradients gradients;
};

Result run(const Case& c, const BlockedKernel& kernel) {
  const AttentionOutput output = kernels::blocked_attention(c.in, c.mask, c.options, kernel);
  return {output, kernels::blocked_attention_backward(c.grad, c.in, output, c.mask, c.options, kernel)};
}

/// By the twin in float64.
Result run_exactly(const Case& c) {
  const AttentionInputs in{c.in.q.to(at::kDouble), c.in.k.to(at::kDouble), c.in.v.to(at::kDouble)};
  const AttentionOutput output = kernels::tree_attention(in, c.mask, c.options);
  return {output, kernels::tree_attention_backward(c.grad.to(at::kDouble), in, output, c.mask, c.options)};
}

std::vector<at::Tensor> tensors(const Result& r) {
  return {r.output.out, r.output.lse, r.gradients.q, r.gradients.k, r.gradients.v};
}

double norm_error(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor finite = b.isfinite();
  const at::Tensor x = a.to(at::kDouble).masked_select(finite), y = b.masked_select(finite);
  const double norm = y.norm().item<double>();
  return norm == 0 ? (x - y).norm().item<double>() : (x - y).norm().item<double>() / norm;
}

/// Of the norm: a float keeps 24 bits, and weights and slopes are rounded to bfloat16's 8 where it is multiplied.
void expect_close(const Result& own, const Result& exact, const BlockedKernel& kernel) {
  const auto a = tensors(own), b = tensors(exact);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(a[i].isfinite(), b[i].isfinite())) << kernel.name << ", result " << i;
    EXPECT_LT(norm_error(a[i], b[i]), kernel.word == 1 ? 2e-6 : 5e-3) << kernel.name << ", result " << i;
  }
}

bool same_bits(const Result& one, const Result& other) {
  const auto a = tensors(one), b = tensors(other);
  for (size_t i = 0; i < a.size(); ++i)
    if (!at::equal(a[i], b[i])) return false;
  return true;
}

std::vector<int32_t> iota(size_t rows) {
  std::vector<int32_t> row(rows);
  for (size_t i = 0; i < rows; ++i) row[i] = static_cast<int32_t>(i);
  return row;
}

std::vector<int32_t> some_of(Rng& rng, size_t rows, double keep) {
  std::vector<int32_t> some;
  for (size_t row = 0; row < rows; ++row)
    if (rng.uniform() < keep) some.push_back(static_cast<int32_t>(row));
  return some;
}

TEST(BlockedAttention, IsTheTwinOnEveryInstructionSetHere) {
  const std::vector<Shape> shapes{{1, 1, 64}, {2, 2, 64}, {1, 7, 128}, {2, 1, 32},  {1, 3, 96},
                                  {1, 2, 40}, {1, 1, 17}, {1, 2, 256}, {3, 5, 128}, {2, 4, 80}};
  for (const BlockedKernel* kernel : kernels_here()) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SCOPED_TRACE(testing::Message() << kernel->name << ", seed " << seed);
      at::manual_seed(seed);
      Rng rng(seed, 1);
      const auto rows = static_cast<int32_t>(1 + rng.below(seed % 4 == 3 ? 700 : 200));
      const auto end = test::random_subtree_ends(rng, rows, seed % 3 == 0 ? 3 : 150);
      const auto all = iota(end.size());
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        const Case c = make_case(end, all, all, shapes[seed % shapes.size()], dtype);
        expect_close(run(c, *kernel), run_exactly(c), *kernel);
      }
    }
  }
}

TEST(BlockedAttention, TakesAnyQueriesAndKeysAndAddsUpOverPartsOfTheKeys) {
  for (const BlockedKernel* kernel : kernels_here()) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      SCOPED_TRACE(testing::Message() << kernel->name << ", seed " << seed);
      at::manual_seed(seed);
      Rng rng(seed, 2);
      const auto end = test::random_subtree_ends(rng, 400, 90);
      const auto queries = some_of(rng, end.size(), seed % 2 ? 0.6 : 0.03);
      const auto keys = some_of(rng, end.size(), seed % 3 ? 0.7 : 0.05);
      const Shape shape{1 + static_cast<int64_t>(seed % 2), 1 + static_cast<int64_t>(seed % 3), 64};
      const Case whole = make_case(end, queries, keys, shape, kernel->word == 1 ? at::kFloat : at::kBFloat16);
      const Result exact = run_exactly(whole);
      expect_close(run(whole, *kernel), exact, *kernel);

      const auto cut = static_cast<int64_t>(rng.below(keys.size() + 1));
      const auto part = [&](int64_t from, int64_t to) {
        Case c = whole;
        for (at::Tensor* x : {&c.in.k, &c.in.v, &c.mask.k_row, &c.mask.k_end}) *x = x->slice(0, from, to);
        return c;
      };
      const Case parts[] = {part(0, cut), part(cut, static_cast<int64_t>(keys.size()))};
      Result sum{.output = kernels::blocked_attention(parts[0].in, parts[0].mask, whole.options, *kernel),
                 .gradients = {}};
      kernels::merge_attention(sum.output,
                               kernels::blocked_attention(parts[1].in, parts[1].mask, whole.options, *kernel));
      AttentionGradients grads[2];
      for (int i = 0; i < 2; ++i)
        grads[i] = kernels::blocked_attention_backward(whole.grad, parts[i].in, sum.output, parts[i].mask,
                                                       whole.options, *kernel);
      sum.gradients = {grads[0].q + grads[1].q, at::cat({grads[0].k, grads[1].k}), at::cat({grads[0].v, grads[1].v})};
      expect_close(sum, exact, *kernel);
    }
  }
}

TEST(BlockedAttention, SeesExactlyToTheEndOfASubtreeWhereverItFalls) {
  // A root, a child that ends at each row in turn, and another behind it: every place in a block of rows and a panel.
  for (const BlockedKernel* kernel : kernels_here()) {
    for (int32_t stop = 33; stop < 200; ++stop) {
      SCOPED_TRACE(testing::Message() << kernel->name << ", child ends at " << stop);
      at::manual_seed(7);
      std::vector<int32_t> end(200, 200);
      std::fill(end.begin() + 32, end.begin() + stop, stop);
      const Case c = make_case(end, iota(200), iota(200), {1, 1, 16}, kernel->word == 1 ? at::kFloat : at::kBFloat16);
      const AttentionOutput own = kernels::blocked_attention(c.in, c.mask, c.options, *kernel);
      const AttentionOutput exact = run_exactly(c).output;
      EXPECT_LT(norm_error(own.lse, exact.lse), kernel->word == 1 ? 1e-6 : 1e-4);
      EXPECT_LT(norm_error(own.out, exact.out), kernel->word == 1 ? 2e-6 : 5e-3);
    }
  }
}

TEST(BlockedAttention, RoundsItsResultsOnceWhereNobodyAddsToThem) {
  for (const BlockedKernel* kernel : kernels_here()) {
    for (const Shape& shape : {Shape{2, 2, 64}, Shape{1, 1, 20}}) {
      at::manual_seed(2);
      for (const size_t queries : {size_t{300}, size_t{2}}) {
        auto q_row = iota(300);
        q_row.erase(q_row.begin(), q_row.end() - static_cast<std::ptrdiff_t>(queries));
        Case c = make_case(std::vector<int32_t>(300, 300), q_row, iota(300), shape, at::kBFloat16);
        const Result wide = run(c, *kernel);
        c.options.rounded = true;
        const AttentionOutput output = kernels::blocked_attention(c.in, c.mask, c.options, *kernel);
        EXPECT_TRUE(at::equal(output.out, wide.output.out.to(at::kBFloat16))) << kernel->name;
        EXPECT_TRUE(at::equal(output.lse, wide.output.lse));
        const AttentionGradients gradients =
            kernels::blocked_attention_backward(c.grad, c.in, wide.output, c.mask, c.options, *kernel);
        EXPECT_TRUE(at::equal(gradients.q, wide.gradients.q.to(at::kBFloat16))) << kernel->name;
        EXPECT_TRUE(at::equal(gradients.k, wide.gradients.k.to(at::kBFloat16))) << kernel->name;
        EXPECT_TRUE(at::equal(gradients.v, wide.gradients.v.to(at::kBFloat16))) << kernel->name;
      }
    }
  }
}

TEST(BlockedAttention, GivesTheSameBitsForAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  at::manual_seed(4);
  Rng rng(4);
  for (const BlockedKernel* kernel : kernels_here()) {
    for (const size_t queries : {size_t{1500}, size_t{3}}) {  // 3: all keys are seen, in runs side by side
      const auto end = queries == 3 ? std::vector<int32_t>(1500, 1500) : test::random_subtree_ends(rng, 1500, 600);
      auto q_row = iota(end.size());
      q_row.erase(q_row.begin(), q_row.end() - static_cast<std::ptrdiff_t>(queries));
      const Case c =
          make_case(end, q_row, iota(end.size()), {1, 2, 64}, kernel->word == 1 ? at::kFloat : at::kBFloat16);
      at::set_num_threads(1);
      const Result one = run(c, *kernel);
      for (const int threads : {2, 3}) {
        at::set_num_threads(threads);
        EXPECT_TRUE(same_bits(run(c, *kernel), one)) << kernel->name << ", " << threads << " threads";
      }
      expect_close(one, run_exactly(c), *kernel);
    }
  }
  at::set_num_threads(before);
}

TEST(BlockedAttention, WhatIsNoNumberShowsInEveryRowThatSeesIt) {
  const auto end = test::fan_subtree_ends(70, 2, 30);
  const auto all = iota(end.size());
  for (const BlockedKernel* kernel : kernels_here()) {
    at::manual_seed(1);
    Case c = make_case(end, all, all, {1, 1, 64}, kernel->word == 1 ? at::kFloat : at::kBFloat16);
    c.in.k[80][0][3] = std::numeric_limits<double>::quiet_NaN();
    const AttentionOutput output = kernels::blocked_attention(c.in, c.mask, c.options, *kernel);
    for (int64_t row = 80; row < 100; ++row) {
      EXPECT_TRUE(output.out[row].isnan().all().item<bool>()) << kernel->name << ", row " << row;
      EXPECT_TRUE(output.lse[row].isnan().all().item<bool>()) << kernel->name << ", row " << row;
    }
    EXPECT_TRUE(output.lse.slice(0, 0, 80).isfinite().all().item<bool>());
  }
}

/// Of each block of queries of each head some of the panels: none, all, or any.
kernels::KeptPanels some_panels(Rng& rng, int64_t block, int64_t lists, int64_t panels) {
  kernels::KeptPanels kept{.block = block, .panel = {}};
  for (int64_t i = 0; i < lists; ++i) {
    const double keep = rng.below(4) == 0 ? 0 : rng.below(4) == 0 ? 1 : rng.uniform();
    kept.panel.push_back(some_of(rng, static_cast<size_t>(panels), keep));
  }
  return kept;
}

TEST(BlockedAttention, OfPanelsHasTheBitsOfAttentionAmongTheirKeysAlone) {
  for (const BlockedKernel* kernel : kernels_here()) {
    for (uint64_t seed = 0; seed < 12; ++seed) {
      SCOPED_TRACE(testing::Message() << kernel->name << ", seed " << seed);
      at::manual_seed(seed);
      Rng rng(seed, 3);
      const auto end = test::random_subtree_ends(rng, static_cast<int32_t>(1 + rng.below(500)), 200);
      const Shape shape{1 + static_cast<int64_t>(seed % 2), 1 + static_cast<int64_t>(seed % 3), seed % 4 ? 64 : 40};
      const auto dtype = seed % 2 ? at::kFloat : at::kBFloat16;
      Case c = make_case(end, some_of(rng, end.size(), 0.8), some_of(rng, end.size(), 0.9), shape, dtype);
      c.options.rounded = true;
      const int64_t queries = c.in.q.size(0), keys = c.in.k.size(0), heads = c.in.q.size(1);
      const int64_t block = static_cast<int64_t>(std::vector<int>{64, 128, 50, 7}[seed % 4]);
      const int64_t blocks = (queries + block - 1) / block, panel = kernels::kPanelKeys;
      const auto kept = some_panels(rng, block, heads * blocks, (keys + panel - 1) / panel);
      const at::Tensor out = kernels::blocked_attention_of_panels(c.in, c.mask, kept, c.options.scale, *kernel);
      ASSERT_EQ(out.scalar_type(), dtype);
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t b = 0; b < blocks; ++b) {
          const at::Tensor here = out.slice(0, b * block, (b + 1) * block).narrow(1, h, 1);
          std::vector<int64_t> seen;
          for (const int32_t p : kept.panel[static_cast<size_t>(h * blocks + b)])
            for (int64_t key = p * panel; key < std::min(keys, (p + 1) * panel); ++key) seen.push_back(key);
          if (seen.empty()) {
            EXPECT_EQ(here.abs().sum().item<double>(), 0);
            continue;
          }
          const at::Tensor at = at::tensor(seen, at::kLong);
          const auto of_keys = [&](const at::Tensor& x) { return x.narrow(1, h / shape.group, 1).index_select(0, at); };
          const AttentionInputs in{c.in.q.slice(0, b * block, (b + 1) * block).narrow(1, h, 1), of_keys(c.in.k),
                                   of_keys(c.in.v)};
          const AttentionMask mask{c.mask.q_row.slice(0, b * block, (b + 1) * block), c.mask.k_row.index_select(0, at),
                                   c.mask.k_end.index_select(0, at)};
          const auto alone = kernels::blocked_attention(in, mask, c.options, *kernel, kernels::BlockedCut::kByPlace);
          EXPECT_TRUE(at::equal(here, alone.out)) << "head " << h << ", block " << b;
        }
    }
  }
}

TEST(BlockedAttention, IsChosenForWhatItIsWrittenFor) {
  EXPECT_EQ(kernels::best_blocked_kernel(at::kDouble, 64), nullptr);
  EXPECT_EQ(kernels::best_blocked_kernel(at::kFloat, 8), nullptr);
  EXPECT_EQ(kernels::best_blocked_kernel(at::kFloat, 257), nullptr);
  const auto here = kernels_here();
  if (here.empty()) GTEST_SKIP() << "this processor has none of them";
  EXPECT_EQ(kernels::best_blocked_kernel(at::kFloat, 64)->word, 1);
  EXPECT_EQ(kernels::best_blocked_kernel(at::kBFloat16, 64), here.back());
}

}  // namespace
}  // namespace fpdist
