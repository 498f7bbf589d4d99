// The divergence of two heads over a vocabulary, whole, in slices and in chunks of rows, against plain torch.
#include "src/ops/partial_kl.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::ops {
namespace {

using test::relative_error;

constexpr int64_t kRows = 9, kVocabulary = 13;

/// Of two models of different widths.
KlOperands random_operands(double scale) {
  const auto random = [&](at::IntArrayRef sizes) { return scale * at::randn(sizes, at::kDouble); };
  return {random({kRows, 4}), random({kVocabulary, 4}), random({kRows, 6}), random({kVocabulary, 6}), 1.7};
}

struct Wanted {
  at::Tensor kl, dh, dw;
};

Wanted by_torch(const KlOperands& of, const at::Tensor& grad) {
  const at::Tensor h = of.hidden.clone().requires_grad_(true), w = of.weight.clone().requires_grad_(true);
  const at::Tensor own = at::log_softmax(h.mm(w.t()) / of.temperature, 1);
  const at::Tensor base = at::log_softmax(of.base_hidden.mm(of.base_weight.t()) / of.temperature, 1);
  const at::Tensor kl = (base.exp() * (base - own)).sum(1);
  (kl * grad).sum().backward();
  return {kl.detach(), h.grad(), w.grad()};
}

TEST(OpsPartialKl, IsTorchsInSlicesAndChunks) {
  at::manual_seed(5);
  for (const double scale : {0.7, 30.0}) {  // of the latter, distributions that all but one token have left
    const KlOperands of = random_operands(scale);
    const at::Tensor grad = at::randn({kRows}, at::kDouble);
    const Wanted wanted = by_torch(of, grad);
    for (const std::vector<int64_t>& cut : std::vector<std::vector<int64_t>>{{13}, {5, 8}, {1, 0, 11, 1}, {0, 13, 0}})
      for (const int64_t bytes : {int64_t{1}, 4 * kVocabulary * 8, kKlChunkBytes}) {
        std::vector<KlOperands> slices;
        std::vector<at::Tensor> difference, lse, base_lse;
        int64_t begin = 0;
        for (const int64_t size : cut) {
          slices.push_back(of);
          slices.back().weight = of.weight.narrow(0, begin, size);
          slices.back().base_weight = of.base_weight.narrow(0, begin, size);
          const PartialKl part = partial_kl(slices.back(), bytes);
          difference.push_back(part.difference), lse.push_back(part.lse), base_lse.push_back(part.base_lse);
          begin += size;
        }
        const MergedKl merged = merge_kl({at::stack(difference), at::stack(lse), at::stack(base_lse)});
        EXPECT_LT(relative_error(merged.kl, wanted.kl), 1e-12);
        at::Tensor dh = at::zeros_like(of.hidden), dw = at::full_like(of.weight, 0.5);
        begin = 0;
        for (const KlOperands& slice : slices) {
          const int64_t size = slice.weight.size(0);
          dh += partial_kl_backward(grad, slice, merged, MainGrad(std::optional(dw.narrow(0, begin, size))), bytes);
          begin += size;
        }
        EXPECT_LT(relative_error(dh, wanted.dh), 1e-12);
        EXPECT_LT(relative_error(dw - 0.5, wanted.dw), 1e-12) << "added to what was there";
        EXPECT_LT(relative_error(partial_kl_backward(grad, of, merged, MainGrad(), bytes), wanted.dh), 1e-12)
            << "of a frozen head";
        Parameter head;
        head.main_grad = at::full_like(of.weight, 7), head.state = c10::make_intrusive<GradientState>();
        head.state->is_empty = true;
        partial_kl_backward(grad, of, merged, MainGrad(head), bytes);
        EXPECT_LT(relative_error(head.main_grad, wanted.dw), 1e-12) << "whatever lay there";
      }
  }
}

TEST(OpsPartialKl, IsNothingBetweenEqualsAndOfNoRows) {
  at::manual_seed(6);
  KlOperands of = random_operands(1);
  of.base_hidden = of.hidden, of.base_weight = of.weight;
  const auto of_all = [](const PartialKl& part) {
    return merge_kl({part.difference.unsqueeze(0), part.lse.unsqueeze(0), part.base_lse.unsqueeze(0)});
  };
  EXPECT_EQ(of_all(partial_kl(of)).kl.abs().max().item<double>(), 0);
  of.hidden = of.base_hidden = of.hidden.narrow(0, 0, 0);
  const MergedKl none = of_all(partial_kl(of));
  EXPECT_EQ(none.kl.numel(), 0);
  EXPECT_EQ(partial_kl_backward(none.kl, of, none, MainGrad()).numel(), 0);
}

TEST(OpsPartialKl, RefusesWhatDoesNotFit) {
  KlOperands of = random_operands(1);
  of.base_hidden = of.base_hidden.narrow(0, 1, 3);
  EXPECT_THROW(partial_kl(of), ShapeError);
  of = random_operands(1);
  of.base_weight = of.base_weight.narrow(0, 1, 3);
  EXPECT_THROW(partial_kl(of), ShapeError);
}

}  // namespace
}  // namespace fpdist::ops
