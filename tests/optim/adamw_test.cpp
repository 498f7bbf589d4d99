#include "src/optim/adamw.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/optim/clip.hpp"

namespace fpdist::optim {
namespace {

double norm_of(const at::Tensor& piece, comm::Communicator& axis) {
  return global_norm({&piece, 1}, axis).item<double>();
}

constexpr int64_t kElems = 1003, kDecayed = 611;

at::Tensor random_tensor(uint64_t stream, int64_t count = kElems) {
  Rng rng(20261121, stream);
  at::Tensor tensor = at::empty({count}, at::kDouble);
  for (int64_t i = 0; i < count; ++i) tensor.data_ptr<double>()[i] = rng.normal();
  return tensor;
}

OptimOptions decaying_options(double learning_rate = 1e-3) {
  OptimOptions options;
  options.learning_rate = learning_rate;
  options.adam_beta2 = 0.95;
  options.weight_decay = 0.1;
  return options;
}

/// The plain formula, an element at a time.
at::Tensor plain_adamw(const at::Tensor& start, const std::vector<at::Tensor>& grads, const OptimOptions& o,
                       const std::function<double(int64_t)>& rate_of) {
  at::Tensor value = start.clone();
  for (int64_t i = 0; i < value.numel(); ++i) {
    double w = start.data_ptr<double>()[i], m = 0, v = 0;
    const double lr = rate_of(i);
    for (size_t t = 1; t <= grads.size(); ++t) {
      const double g = grads[t - 1].data_ptr<double>()[i];
      if (i < kDecayed) w -= lr * o.weight_decay * w;
      m = o.adam_beta1 * m + (1 - o.adam_beta1) * g;
      v = o.adam_beta2 * v + (1 - o.adam_beta2) * g * g;
      const double m_hat = m / (1 - std::pow(o.adam_beta1, t)), v_hat = v / (1 - std::pow(o.adam_beta2, t));
      w -= lr * m_hat / (std::sqrt(v_hat) + o.adam_epsilon);
    }
    value.data_ptr<double>()[i] = w;
  }
  return value;
}

std::vector<at::Tensor> five_gradients() {
  std::vector<at::Tensor> grads;
  for (int step = 0; step < 5; ++step) grads.push_back(random_tensor(100 + step) * std::pow(10.0, step - 2));
  return grads;
}

TEST(AdamW, EveryShardingEqualsThePlainFormula) {
  const at::Tensor start = random_tensor(1);
  const std::vector<at::Tensor> grads = five_gradients();
  const OptimOptions options = decaying_options(6e-3);
  const at::Tensor expected = plain_adamw(start, grads, options, [](int64_t) { return 3e-3; });
  for (const int ranks : {1, 2, 3, 8}) {
    at::Tensor values = start.clone();
    comm::run_threads(ranks, [&](comm::World& world) {
      at::set_num_threads(1);
      const int64_t begin = kElems * world.rank() / ranks, end = kElems * (world.rank() + 1) / ranks;
      AdamW optimizer(values.narrow(0, begin, end - begin), begin, kDecayed, options);
      for (const at::Tensor& grad : grads) optimizer.step(grad.narrow(0, begin, end - begin), 0.5);
      EXPECT_EQ(optimizer.steps(), 5);
    });
    EXPECT_TRUE(at::allclose(values, expected, 1e-12, 1e-13)) << ranks << " ranks";
  }
}

TEST(AdamW, EqualsTorch) {
  std::ifstream file(FPDIST_SOURCE_DIR "/tests/golden/adamw.json");
  for (const auto& row : nlohmann::json::parse(file)) {
    const at::ScalarType dtype = row["dtype"] == "float64" ? at::kDouble : at::kFloat;
    const auto tensor = [&](const nlohmann::json& values) {
      return at::tensor(values.get<std::vector<double>>(), at::kDouble).to(dtype);
    };
    OptimOptions options;
    options.adam_beta1 = row["adam_beta1"];
    options.adam_beta2 = row["adam_beta2"];
    options.adam_epsilon = row["adam_epsilon"];
    options.weight_decay = row["weight_decay"];
    options.learning_rate = row["learning_rate"];
    at::Tensor value = tensor(row["value"]);
    AdamW optimizer(value, 0, row["decayed"], options);
    for (const auto& grad : row["grads"]) optimizer.step(tensor(grad), 1);
    const double tolerance = dtype == at::kDouble ? 1e-13 : 3e-7;  // float32: torch's two ways differ by a last bit
    EXPECT_TRUE(at::allclose(value, tensor(row["after"]), tolerance, tolerance)) << row["dtype"] << row["fused"];
  }
}

TEST(AdamW, RepeatsBitForBit) {
  at::Tensor values[2];
  for (at::Tensor& value : values) {
    value = random_tensor(2).to(at::kFloat);
    AdamW optimizer(value, 0, kDecayed, decaying_options());
    for (const at::Tensor& grad : five_gradients()) optimizer.step(grad.to(at::kFloat), 1);
  }
  EXPECT_TRUE(at::equal(values[0], values[1]));
}

TEST(AdamW, DecaysBelowTheBoundaryOnly) {
  const OptimOptions options = decaying_options(0.5);
  for (const int64_t begin : {0, 300, 611, 900}) {  // shards before, across, at and behind the boundary
    at::Tensor value = at::ones({100}, at::kDouble);
    AdamW optimizer(value, begin + kDecayed - 650, kDecayed, options);
    optimizer.step(at::zeros({100}, at::kDouble), 1);
    for (int64_t i = 0; i < 100; ++i) {
      const bool is_decayed = begin + kDecayed - 650 + i < kDecayed;
      EXPECT_DOUBLE_EQ(value.data_ptr<double>()[i], is_decayed ? 0.95 : 1.0) << "element " << i << " from " << begin;
    }
  }
}

TEST(AdamW, Bfloat16ValuesAreRoundedFloat32Masters) {
  const at::Tensor start = random_tensor(3).to(at::kBFloat16);
  at::Tensor narrow = start.clone(), wide = start.to(at::kFloat);
  AdamW rounded(narrow, 0, kDecayed, decaying_options(1e-5)), exact(wide, 0, kDecayed, decaying_options(1e-5));
  EXPECT_EQ(rounded.master().scalar_type(), at::kFloat);
  for (const at::Tensor& grad : five_gradients()) {
    rounded.step(grad.to(at::kFloat), 1);  // far below bfloat16's resolution: only masters can add it up
    exact.step(grad.to(at::kFloat), 1);
  }
  EXPECT_TRUE(at::equal(rounded.master(), wide));
  EXPECT_TRUE(at::equal(narrow, wide.to(at::kBFloat16)));
  EXPECT_FALSE(at::equal(wide, start.to(at::kFloat)));
}

TEST(AdamW, TheMasterIsTheValueWhenTheDtypeIsTheSame) {
  at::Tensor value = random_tensor(4);
  const AdamW optimizer(value, 0, 0, {});
  EXPECT_EQ(optimizer.master().data_ptr(), value.data_ptr());
}

TEST(AdamW, EachSpanHasItsOwnRateInEverySharding) {
  const at::Tensor start = random_tensor(7);
  const std::vector<at::Tensor> grads = five_gradients();
  const OptimOptions options = decaying_options();
  const std::vector<PeakSpan> spans{
      {100, 1e-3}, {400, 5e-3}, {700, 0.0}, {kElems, 2e-3}};  // one across the decay's end
  const auto rate_of = [&](int64_t i) {
    size_t span = 0;
    while (i >= spans[span].end) ++span;
    return 0.25 * spans[span].learning_rate;
  };
  const at::Tensor expected = plain_adamw(start, grads, options, rate_of);
  for (const int ranks : {1, 3, 8}) {
    at::Tensor values = start.clone();
    for (int rank = 0; rank < ranks; ++rank) {
      const int64_t begin = kElems * rank / ranks, end = kElems * (rank + 1) / ranks;
      std::vector<PeakSpan> here;
      for (const PeakSpan& span : spans)
        if (span.end > begin) here.push_back({std::min(span.end, end) - begin, span.learning_rate});
      AdamW optimizer(values.narrow(0, begin, end - begin), begin, kDecayed, options, here);
      for (const at::Tensor& grad : grads) optimizer.step(grad.narrow(0, begin, end - begin), 0.25);
    }
    EXPECT_TRUE(at::allclose(values, expected, 1e-12, 1e-13)) << ranks << " ranks";
    EXPECT_TRUE(at::equal(values.narrow(0, 400, 300), start.narrow(0, 400, 300))) << "rate 0 moves nothing";
  }
}

TEST(AdamW, SpansOfEqualRatesGiveTheBitsOfOne) {
  const at::Tensor start = random_tensor(8).to(at::kFloat);
  at::Tensor one = start.clone(), cut = start.clone();
  std::vector<PeakSpan> spans;
  for (int64_t end = 7; end < kElems; end += 13) spans.push_back({end, 1e-3});  // no multiple of a vector
  spans.push_back({kElems, 1e-3});
  AdamW whole(one, 0, kDecayed, decaying_options()), parts(cut, 0, kDecayed, decaying_options(), spans);
  for (const at::Tensor& grad : five_gradients()) {
    whole.step(grad.to(at::kFloat), 0.7);
    parts.step(grad.to(at::kFloat), 0.7);
  }
  EXPECT_TRUE(at::equal(one, cut));
  EXPECT_THROW(AdamW(one, 0, kDecayed, {}, {{kElems - 1, 1e-3}}), ShapeError);
}

TEST(AdamW, RefusesAGradientOfAnotherShapeOrDtype) {
  at::Tensor value = random_tensor(5);
  AdamW optimizer(value, 0, 0, {});
  EXPECT_THROW(optimizer.step(at::zeros({kElems - 1}, at::kDouble), 1), ShapeError);
  EXPECT_THROW(optimizer.step(at::zeros({kElems}, at::kFloat), 1), ShapeError);
  EXPECT_THROW(AdamW(value.view({17, 59}), 0, 0, {}), ShapeError);
  EXPECT_EQ(optimizer.steps(), 0);
}

TEST(Clip, TheNormOfShardsIsTheNormOfTheWhole) {
  const int64_t count = 200003;  // several runs of the partial sums
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const at::Tensor grad = random_tensor(6, count).to(dtype);
    const double expected = grad.to(at::kDouble).norm().item<double>();
    for (const int ranks : {1, 2, 3, 8}) {
      std::vector<double> norms(ranks), again(ranks);
      for (auto* out : {&norms, &again}) {
        comm::run_threads(ranks, [&](comm::World& world) {
          const int64_t begin = count * world.rank() / ranks, end = count * (world.rank() + 1) / ranks;
          (*out)[world.rank()] = norm_of(grad.narrow(0, begin, end - begin), world.communicator());
        });
      }
      EXPECT_NEAR(norms[0], expected, 1e-12 * expected);
      EXPECT_EQ(norms, std::vector<double>(ranks, norms[0]));
      EXPECT_EQ(norms, again);
    }
  }
}

TEST(Clip, TheNormDoesNotOverflowFloat32) {
  comm::run_threads(1, [](comm::World& world) {
    const at::Tensor grad = at::full({100}, 1e30f, at::kFloat);
    EXPECT_NEAR(norm_of(grad, world.communicator()), 1e31, 1e24);
    EXPECT_THROW(norm_of(grad.to(at::kBFloat16), world.communicator()), ShapeError);
    EXPECT_THROW(norm_of(grad.to(at::kMeta), world.communicator()), ShapeError) << "not where it was said to be";
  });
}

TEST(AdamW, AStepThatFoundInfinityChangesNothingAndDoesNotCount) {
  const at::Tensor value = at::randn({50}, at::kDouble), before = value.clone();
  AdamW optimizer(value, 0, 50, decaying_options(1e-2));
  const at::Tensor found = at::ones({1}, at::kFloat), none = at::zeros({1}, at::kFloat);
  optimizer.step(at::full({50}, std::nan(""), at::kDouble), 1, found);
  optimizer.take_back();
  EXPECT_TRUE(at::equal(value, before));
  const at::Tensor grad = at::randn({50}, at::kDouble), other = before.clone();
  optimizer.step(grad, 1, none);
  AdamW fresh(other, 0, 50, decaying_options(1e-2));
  fresh.step(grad, 1);
  EXPECT_TRUE(at::equal(value, other));
  EXPECT_EQ(optimizer.steps(), 1);
}

TEST(Clip, TheCoefficientIsTorchs) {
  const auto coefficient = [](double norm, double most) {
    return clip_coefficient(at::scalar_tensor(norm, at::kDouble), most).item<double>();
  };
  EXPECT_EQ(coefficient(5.0, 0.0), 1.0);
  EXPECT_EQ(coefficient(0.5, 1.0), 1.0);
  EXPECT_DOUBLE_EQ(coefficient(4.0, 1.0), 1.0 / (4.0 + 1e-6));
  EXPECT_TRUE(std::isnan(coefficient(std::nan(""), 1.0)));
}

}  // namespace
}  // namespace fpdist::optim
