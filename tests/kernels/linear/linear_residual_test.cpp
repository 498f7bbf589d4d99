// y = x W^T + b + residual in one product: the sum it replaces, its gradients, its one rounding, what it refuses, and
// the cuBLASLt call behind it. The rounding is compared bit for bit, on the CPU and on a GPU.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/ops/functional.hpp"
#include "kernels/linear/gemm_call.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/linear_composed.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::kernels {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// How a residual may lie in memory: on its own, as some columns of wider rows, transposed, one row for all.
enum class Lie { kOwn, kWider, kTransposed, kOneRow };
constexpr uint64_t kLies = 4;

at::Tensor laid(const at::Tensor& values, Lie lie) {
  const int64_t rows = values.size(0), columns = values.size(1);
  switch (lie) {
    case Lie::kOwn:
      return values.clone();
    case Lie::kWider:
      return at::zeros({rows, columns + 7}, values.options()).slice(1, 3, columns + 3).copy_(values);
    case Lie::kTransposed:
      return values.t().contiguous().t();
    case Lie::kOneRow:
      return rows == 0 ? values.clone() : values.slice(0, 0, 1).clone().expand({rows, columns});
  }
  return {};
}

ops::Parameter parameter(const at::Tensor& value) {
  ops::Parameter made;
  made.name = "weight";
  made.value = value.clone().requires_grad_(true);
  made.main_grad = at::zeros_like(value);
  return made;
}

TEST(LinearResidual, EqualsTheProductAndAnAdditionWithAllGradientsInFloat64) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    at::manual_seed(seed);
    Rng rng(seed);
    const auto size = [&](int64_t least) { return least + static_cast<int64_t>(rng.below(9)); };
    const int64_t rows = size(0), in = size(1), out = size(1);
    const bool has_bias = rng.below(2) == 0, has_main_grads = rng.below(2) == 0;
    const auto random = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); };
    const at::Tensor x = random({rows, in}).requires_grad_(true), dy = random({rows, out});
    const ops::Parameter w = parameter(random({out, in})), b = parameter(random({out}));
    const at::Tensor residual =
        laid(random({rows, out}), static_cast<Lie>(rng.below(kLies))).detach().requires_grad_(true);
    const at::Tensor before = residual.detach().clone();

    std::vector<at::Tensor> inputs = {x, w.value, residual};
    if (has_bias) inputs.push_back(b.value);
    at::Tensor expected = at::mm(x, w.value.t()) + residual;
    if (has_bias) expected = expected + b.value;
    const auto want = torch::autograd::grad({expected}, inputs, {dy});

    const OptionalTensor bias = has_bias ? OptionalTensor(b.value) : std::nullopt;
    const at::Tensor y = has_main_grads ? ops::linear(x, w, has_bias ? &b : nullptr, residual)
                                        : linear(x, w.value, bias, {}, {}, residual);
    EXPECT_LT(test::relative_error(y, expected), 1e-13);
    {
      const at::NoGradGuard no_grad;
      EXPECT_LT(test::relative_error(composed_linear(x, w.value, bias, residual), expected), 1e-13);
    }
    EXPECT_TRUE(y.is_contiguous());
    EXPECT_FALSE(y.is_alias_of(residual));
    auto got = torch::autograd::grad({y}, inputs, {dy}, /*retain_graph=*/false, /*create_graph=*/false,
                                     /*allow_unused=*/has_main_grads);
    if (has_main_grads) {
      EXPECT_FALSE(got[1].defined());
      got[1] = w.main_grad;
      if (has_bias) got[3] = b.main_grad;
    }
    for (size_t i = 0; i < want.size(); ++i) EXPECT_LT(test::relative_error(got[i], want[i]), 1e-13) << "input " << i;
    EXPECT_TRUE(at::equal(residual, before)) << "the residual was written";
  }
}

TEST(LinearResidual, OfItsOwnInputAddsBothGradients) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({5, 4}, at::kDouble).requires_grad_(true), w = at::randn({4, 4}, at::kDouble);
  linear(x, w, {}, {}, {}, x).sum().backward();
  EXPECT_LT(test::relative_error(x.grad(), w.sum(0).expand({5, 4}) + 1), 1e-13);
}

TEST(LinearResidual, WithNeitherInputNorWeightTrainedStillPassesItsGradientOn) {
  const at::Tensor x = at::randn({5, 4}), w = at::randn({3, 4}), r = at::randn({5, 3}).requires_grad_(true);
  const at::Tensor dy = at::randn({5, 3});
  linear(x, w, {}, {}, {}, r).backward(dy);
  EXPECT_TRUE(at::equal(r.grad(), dy));
}

/// Integers, so that every order of additions gives one exact sum: what is left is the roundings.
at::Tensor integers(at::IntArrayRef sizes, int64_t most) {
  return at::randint(-most, most + 1, sizes, at::kDouble).to(at::kBFloat16);
}

TEST(LinearResidual, Bfloat16IsRoundedOnceWhateverTheSizeAndTheLie) {
  at::manual_seed(2);
  int64_t unlike_two_roundings = 0;
  for (const auto& [rows, in, out] :
       {std::tuple{1, 8, 8}, {64, 64, 64}, {33, 40, 72}, {7, 5000, 3}, {50, 3000, 1}, {128, 896, 264}, {3, 5, 7}}) {
    for (const bool has_bias : {false, true}) {
      for (uint64_t lie = 0; lie < kLies; ++lie) {
        SCOPED_TRACE(testing::Message() << rows << " x " << in << " x " << out << " lie " << lie << " bias "
                                        << has_bias);
        const at::Tensor x = integers({rows, in}, 3), w = integers({out, in}, 3), b = integers({out}, 200);
        const at::Tensor r = laid(integers({rows, out}, 300), static_cast<Lie>(lie));
        at::Tensor sum = at::mm(x.to(at::kDouble), w.to(at::kDouble).t());
        if (has_bias) sum += b;
        const at::Tensor once = (sum + r).to(at::kBFloat16), twice = sum.to(at::kBFloat16) + r;
        // The layout must survive the journey: a strided tensor is moved as what it is a view of.
        const at::Tensor residual = laid(test::there(r), static_cast<Lie>(lie));
        const at::Tensor x_there = test::there(x), w_there = test::there(w);
        const OptionalTensor bias = has_bias ? OptionalTensor(test::there(b)) : std::nullopt;
        EXPECT_TRUE(at::equal(test::here(linear(x_there, w_there, bias, {}, {}, residual)), once));
        EXPECT_TRUE(at::equal(test::here(composed_linear(x_there, w_there, bias, residual)), once));
        unlike_two_roundings += once.ne(twice).sum().item<int64_t>();
      }
    }
  }
  EXPECT_GT(unlike_two_roundings, 100) << "these numbers would not tell one rounding from two";
}

TEST(LinearResidual, Float32AgreesWithFloat64) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({70, 130}), w = at::randn({41, 130}), b = at::randn({41});
  const at::Tensor r = at::randn({70, 41}), residual = laid(test::there(r), Lie::kWider);
  const at::Tensor wide = at::mm(x.to(at::kDouble), w.to(at::kDouble).t()) + r;
  const auto run = [&](const OptionalTensor& bias) {
    return test::here(linear(test::there(x), test::there(w), bias, {}, {}, residual));
  };
  EXPECT_LT(test::relative_error(run({}), wide), 1e-6);
  EXPECT_LT(test::relative_error(run(test::there(b)), wide + b), 1e-6);
}

TEST(LinearResidual, WithoutRowsOrWithoutASummedDimIsTheResidual) {
  const at::Tensor r = at::randn({4, 3});
  EXPECT_TRUE(at::equal(linear(at::zeros({4, 0}), at::zeros({3, 0}), {}, {}, {}, r), r));
  EXPECT_TRUE(at::equal(linear(at::zeros({4, 0}), at::zeros({3, 0}), at::ones({3}), {}, {}, r), r + 1));
  EXPECT_EQ(linear(at::zeros({0, 5}), at::zeros({3, 5}), {}, {}, {}, at::zeros({0, 3})).sizes(),
            at::IntArrayRef({0, 3}));
}

TEST(LinearResidual, OnMetaHasTheTwinsShapeAndAsksForNoValue) {
  const auto meta = [](at::IntArrayRef sizes) {
    return at::zeros(sizes, at::TensorOptions(at::kMeta).dtype(at::kBFloat16));
  };
  const at::Tensor x = meta({5, 4}), w = meta({3, 4}), b = meta({3}), r = laid(meta({5, 3}), Lie::kWider);
  for (const OptionalTensor& bias : {OptionalTensor(), OptionalTensor(b)}) {
    for (const at::Tensor& y : {linear(x, w, bias, {}, {}, r), composed_linear(x, w, bias, r)}) {
      EXPECT_TRUE(y.is_meta() && y.is_contiguous());
      EXPECT_EQ(y.sizes(), at::IntArrayRef({5, 3}));
      EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    }
  }
}

void expect_refused(const at::Tensor& residual, at::Device device, const std::string& text) {
  SCOPED_TRACE(testing::Message() << text << " on " << device);
  const at::Tensor x = at::zeros({5, 4}).to(device), weight = at::zeros({3, 4}).to(device);
  test::expect_words(test::error_of<ShapeError>([&] { linear(x, weight, {}, {}, {}, residual); }), {text});
}

TEST(LinearResidual, RefusesWhatDoesNotFitByName) {
  for (const at::Device device : {at::kCPU, at::kMeta}) {
    const auto wrong = [&](at::IntArrayRef sizes, at::ScalarType dtype = at::kFloat) {
      return at::zeros(sizes, dtype).to(device);
    };
    expect_refused(wrong({4, 3}), device, "linear: residual has shape [4, 3], needs [5, 3]");
    expect_refused(wrong({5, 4}), device, "linear: residual has shape [5, 4], needs [5, 3]");
    expect_refused(wrong({3}), device, "linear: residual has 1 dims, needs 2");
    expect_refused(wrong({5, 3}, at::kDouble), device, "linear: residual is Double, needs Float");
    expect_refused(wrong({5, 3}, at::kLong), device, "linear: residual is Long");
    expect_refused(at::Tensor(), device, "linear: residual is undefined");
    expect_refused(at::zeros({5, 3}).to(device.is_cpu() ? at::kMeta : at::kCPU), device, "linear: residual is on ");
  }
}

TEST(LinearResidual, IsNotKeptByTheGraph) {
  const at::Tensor x = at::randn({5, 4}).requires_grad_(true), leaf = at::randn({5, 3}).requires_grad_(true);
  const ops::Parameter w = parameter(at::randn({3, 4})), b = parameter(at::randn({3}));
  for (const ops::Parameter* bias : {static_cast<const ops::Parameter*>(nullptr), &b}) {
    at::Tensor residual = leaf * 2;
    const c10::weak_intrusive_ptr<c10::StorageImpl> storage(residual.storage().getWeakStorageImpl());
    const at::Tensor y = ops::linear(x, w, bias, residual);
    residual.reset();
    EXPECT_TRUE(storage.expired()) << "the graph of the linear keeps it";
    y.sum().backward();
  }
  EXPECT_LT(test::relative_error(leaf.grad(), at::full({5, 3}, 4.0)), 1e-7);
}

TEST(LinearResidual, DeferredWeightGradientsEqualImmediateOnesBitForBit) {
  at::manual_seed(5);
  const at::Tensor value = at::randn({3, 4}), bias = at::randn({3});
  for (const bool has_bias : {false, true}) {
    const ops::Parameter now = parameter(value), now_bias = parameter(bias);
    ops::Parameter later = parameter(value), later_bias = parameter(bias);
    const auto queue = c10::make_intrusive<ops::WeightGradientQueue>();
    later.queue = later_bias.queue = queue;
    // Leaves that collect the gradients of two packs while the work of both waits.
    const at::Tensor r_now = at::randn({5, 3}).requires_grad_(true);
    const at::Tensor r_later = r_now.detach().clone().requires_grad_(true);
    queue->open(1);
    for (int pack = 0; pack < 2; ++pack) {
      const at::Tensor x = at::randn({5, 4}), dy = at::randn({5, 3});
      (ops::linear(x, now, has_bias ? &now_bias : nullptr, r_now) * dy).sum().backward();
      (ops::linear(x, later, has_bias ? &later_bias : nullptr, r_later) * dy).sum().backward();
    }
    queue->close();
    EXPECT_GT(queue->pending(), 0U);
    queue->run(1);
    EXPECT_TRUE(at::equal(r_later.grad(), r_now.grad()));
    EXPECT_TRUE(at::equal(later.main_grad, now.main_grad)) << "a waiting gradient was written to";
    EXPECT_TRUE(at::equal(later_bias.main_grad, now_bias.main_grad));
  }
}

/// cublasLtMatmul as its manual has it: column-major, element (i, j) of a matrix at i + j * ld; beta 1, C apart from D.
void interpret(const GemmCall& call, const double* a, const double* b, const double* c, double* d) {
  const auto at = [](const double* x, int64_t i, int64_t j, int64_t ld, bool transposes) {
    return transposes ? x[j + i * ld] : x[i + j * ld];
  };
  for (int64_t j = 0; j < call.n; ++j) {
    for (int64_t i = 0; i < call.m; ++i) {
      double sum = c[i + j * call.ldc];
      for (int64_t l = 0; l < call.k; ++l)
        sum += at(a, i, l, call.lda, call.transpose_a) * at(b, l, j, call.ldb, call.transpose_b);
      d[i + j * call.ldd] = sum;
    }
  }
}

TEST(PlanSum, ReadColumnMajorItMakesTheRowMajorSum) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    at::manual_seed(seed);
    Rng rng(seed);
    const auto size = [&] { return static_cast<int64_t>(1 + rng.below(9)); };
    const auto matrix = [&](int64_t rows, int64_t columns) {
      const auto extra = static_cast<int64_t>(rng.below(4));
      return at::randn({rows, columns + extra}, at::kDouble).slice(1, extra, columns + extra);
    };
    const int64_t rows = size(), inner = size(), columns = size();
    const at::Tensor a = matrix(rows, inner), b = matrix(columns, inner), c = matrix(rows, columns);
    const at::Tensor d = matrix(rows, columns), before = c.clone(), expected = at::mm(a, b.t()) + c;
    const GemmCall call = sum_call(c, a, false, b, true, d);
    interpret(call, b.data_ptr<double>(), a.data_ptr<double>(), c.data_ptr<double>(), d.data_ptr<double>());
    EXPECT_TRUE(call.accumulates && call.separate_c);
    EXPECT_LT(test::relative_error(d, expected), 1e-13);
    EXPECT_TRUE(at::equal(c, before));
  }
}

TEST(PlanSum, IsAnotherCallThanTheProductIntoItsOwnMatrixAndThanWithAnotherC) {
  const at::Tensor x = at::zeros({64, 64}, at::kBFloat16), w = at::zeros({64, 64}, at::kBFloat16), y = x.clone();
  const at::Tensor c = x.clone(), wider = at::zeros({64, 65}, at::kBFloat16);
  const GemmCall own = product_call(x, false, w, true, y, true), sum = sum_call(c, x, false, w, true, y);
  EXPECT_EQ(own.ldc, own.ldd);
  EXPECT_EQ(own.alignment_c, own.alignment_d);
  EXPECT_FALSE(own.separate_c);
  EXPECT_NE(own, sum);
  EXPECT_EQ(sum, sum_call(c, x, false, w, true, y));
  const GemmCall apart = sum_call(wider.slice(1, 0, 64), x, false, w, true, y);
  EXPECT_EQ(std::tuple(apart.ldc, apart.ldd), std::tuple(65, 64));
  EXPECT_NE(sum, apart);
  const GemmCall odd = sum_call(wider.slice(1, 1), x, false, w, true, y);
  EXPECT_EQ(odd.alignment_c, 2);
  EXPECT_GE(odd.alignment_d, 64);
  EXPECT_NE(odd, apart);
}

TEST(PlanSum, RefusesACThatDoesNotFitOrHasNoRows) {
  const at::Tensor x = at::zeros({7, 3}), w = at::zeros({5, 3}), y = at::zeros({7, 5});
  EXPECT_THROW(sum_call(at::zeros({5, 7}), x, false, w, true, y), ShapeError);
  EXPECT_THROW(sum_call(at::zeros({5, 7}).t(), x, false, w, true, y), ShapeError);
  EXPECT_THROW(sum_call(at::zeros({5}).expand({7, 5}), x, false, w, true, y), ShapeError);
  EXPECT_THROW(sum_call(at::zeros({7, 5}, at::kDouble), x, false, w, true, y), ShapeError);
  EXPECT_THROW(sum_call(y.clone(), x, false, w, false, y), ShapeError);
}

}  // namespace
}  // namespace fpdist::kernels
