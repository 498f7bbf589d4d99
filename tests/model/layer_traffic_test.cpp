// What a layer asks of a GPU's memory beside its products: no more than fused kernels move. Counted on the emulated
// GPU, on a quarter of Qwen2.5-7B in every size, so that the bytes of a row are a quarter of its.
#include <gtest/gtest.h>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/log.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/device/emulated_counts.hpp"
#include "tests/support/device/why_no_gpu.hpp"

namespace fpdist::model {
namespace {

constexpr arch::ModelShape kQuarter{
    .layers = 1, .hidden = 896, .intermediate = 4736, .heads = 7, .kv_heads = 1, .head_dim = 128, .vocab = 64};

/// A prompt of half of the rows and two answers.
prefix::TreeLayout prompt_and_answers(int64_t rows) {
  std::vector<data::Sample> samples;
  for (const int32_t answer : {1, 2}) {
    std::vector<int32_t> token(static_cast<size_t>(rows * 3 / 4), 0);
    for (size_t i = static_cast<size_t>(rows / 2); i < token.size(); ++i) token[i] = answer;
    samples.push_back(test::sample_of(token));
  }
  return test::layout_of(samples, /*share=*/true);
}

struct LayerAsked {
  test::Asked forward, backward;
};

/// Of the second pack that goes through: the first makes what is made once.
std::optional<LayerAsked> asked_of_layer(comm::Device& device, int64_t rows) {
  Transformer layer(arch::model_of_shape("qwen2", kQuarter), {.dtype = at::kBFloat16,
                                                              .device = device.where(),
                                                              .trainable = true,
                                                              .layers = {.embedding = false, .head = false}});
  layer.initialize(1);
  const parallel::PackTensors pack = parallel::make_pack_tensors(prompt_and_answers(rows), {}, &device);
  const at::Tensor input = device.upload(at::randn({rows, kQuarter.hidden}).to(at::kBFloat16));
  const at::Tensor grad = device.upload(at::randn({rows, kQuarter.hidden}).to(at::kBFloat16));
  std::optional<test::Asked> forward, backward;
  for (int pass = 0; pass < 2; ++pass) {
    device.synchronize();
    forward = test::asked_by([&] {
      layer.forward(0, pack.slice[0].rows, input);
      device.synchronize();
    });
    backward = test::asked_by([&] {
      layer.backward_input(0, grad);
      device.synchronize();
    });
  }
  return forward ? std::optional(LayerAsked{*forward, *backward}) : std::nullopt;
}

TEST(LayerTraffic, IsThatOfFusedKernels) {
  comm::run_threads(1, [](comm::World& world) {
    if (const std::string why_not = test::why_no_gpu(world); !why_not.empty()) GTEST_SKIP() << "NOT RUN: " << why_not;
    NullLog log;
    const auto device = comm::open_device("cuda", world, {}, log);
    constexpr int64_t kRows = 256;
    const auto asked = asked_of_layer(*device, kRows);
    if (!asked) GTEST_SKIP() << "SKIPPED: a real GPU does not count";
    // Of a whole layer of Qwen2.5-7B and 8,192 rows, where chains of torch's operators moved 36 GB; a norm's weights
    // and the rotary's table, which each row reads anew out of a cache, count here.
    const double bytes = static_cast<double>(asked->forward.bytes + asked->backward.bytes) * 4 * (8192 / kRows);
    EXPECT_LT(bytes / 1e9, 5.2);
    // Two norms, two rotations, attention, the gate; back also the norms' weights, the attention's rows and parts, and
    // of torch's the sums of gradients that meet.
    EXPECT_LE(asked->forward.launches, 6U);
    EXPECT_LE(asked->forward.operators, 4U);
    EXPECT_LE(asked->backward.launches, 11U);
    EXPECT_LE(asked->backward.operators, 10U);
  });
}

}  // namespace
}  // namespace fpdist::model
