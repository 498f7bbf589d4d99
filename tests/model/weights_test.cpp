#include "src/model/weights.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::model {
namespace {

using test::small_config;

using Sum = ops::Sharding::Sum;

struct Case {
  arch::Model config;
  Head head;
  std::vector<int> degrees;
};

void set_heads(arch::Model& model, int64_t heads, int64_t kv_heads) {
  for (arch::Layer& layer : model.layers) layer.attention.heads = heads, layer.attention.kv_heads = kv_heads;
}

/// Every family with 4 heads over 2, and with 6 heads over 3; a vocabulary of 23 and 20 inner columns leave remainders.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string family : {"llama", "qwen2", "qwen3"})
    for (const Head head : {Head::kLanguageModel, Head::kScore}) {
      all.push_back({small_config(family, /*tied=*/family == "qwen3"), head, {1, 2, 4}});
      all.push_back({small_config(family), head, {1, 3, 6}});
      set_heads(all.back().config, 6, 3);
      for (arch::Layer& layer : all.back().config.layers) layer.mlp.intermediate = 4;  // fewer than the ranks
    }
  return all;
}

RunWeights make(const Case& of, TensorShard tp = {}, StageLayers layers = {}) {
  RunWeights weights = RunWeights::allocate(of.config, at::TensorOptions(at::kFloat), of.head, true, layers, tp);
  for (const auto& parameter : weights.all) initialize(*parameter, 0.3, 17);
  return weights;
}

/// The elements of the whole weight that a slice holds.
at::Tensor place_in(const at::Tensor& whole, const ops::Parameter& slice) {
  const auto& cut = slice.sharding;
  return cut.dim < 0 ? whole : whole.narrow(cut.dim, cut.begin, slice.value.size(cut.dim));
}

TEST(Weights, SlicesOfAnyDegreeAreTheWholeAndEveryElementIsCountedOnce) {
  for (const Case& of : cases()) {
    const RunWeights whole = make(of);
    for (const int size : of.degrees) {
      SCOPED_TRACE(testing::Message() << "family " << of.config.family << " tp " << size);
      std::map<std::string, at::Tensor> counted;
      for (const auto& parameter : whole.all) counted[parameter->name] = at::zeros_like(parameter->main_grad);
      for (int rank = 0; rank < size; ++rank) {
        const RunWeights mine = make(of, {rank, size});
        ASSERT_EQ(mine.all.size(), whole.all.size());
        for (size_t i = 0; i < mine.all.size(); ++i) {
          const ops::Parameter &slice = *mine.all[i], &parameter = *whole.all[i];
          EXPECT_EQ(slice.name, parameter.name);
          EXPECT_TRUE(at::equal(slice.value, place_in(parameter.value, slice))) << slice.name << " on rank " << rank;
          EXPECT_EQ(slice.main_grad.sizes(), slice.value.sizes());
          if (slice.sharding.dim >= 0) {
            EXPECT_EQ(slice.sharding.full_shape, parameter.value.sizes().vec());
          }
          if (slice.sharding.counted) place_in(counted[slice.name], slice).add_(1);
        }
      }
      for (const auto& [name, times] : counted) EXPECT_TRUE(times.eq(1).all().item<bool>()) << name;
    }
  }
}

TEST(Weights, ReplicatedGradientsAreMarkedByWhoMustSumThem) {
  const Case of{small_config("llama"), Head::kScore, {}};
  std::map<std::string, Sum> sum;
  const RunWeights weights = make(of, {3, 4});
  for (const auto& parameter : weights.all) sum[parameter->name] = parameter->sharding.sum;
  const std::string block = "model.layers.0.", attention = block + "self_attn.";
  for (const auto& name : {attention + "k_proj.weight", attention + "v_proj.bias"})
    EXPECT_EQ(sum[name], Sum::kReplicas);
  for (const auto& name : {attention + "o_proj.bias", block + "mlp.down_proj.bias", block + "input_layernorm.weight",
                           std::string("model.norm.weight"), std::string(kScoreWeight)})
    EXPECT_EQ(sum[name], Sum::kAxis) << name;
  for (const auto& name : {attention + "q_proj.weight", attention + "o_proj.weight", block + "mlp.up_proj.bias",
                           std::string(kEmbeddingWeight)})
    EXPECT_EQ(sum[name], Sum::kNobody) << name;
  EXPECT_EQ(weights.block[0].k.weight->sharding.begin, 6);  // rank 3 of 4 shares the second of two heads with rank 2
  EXPECT_FALSE(weights.block[0].k.weight->sharding.counted);
  EXPECT_EQ(arch::key_value_replicas(of.config, 4), 2);
  EXPECT_EQ(arch::key_value_replicas(of.config, 2), 1);
}

TEST(Weights, OneRankHoldsEverythingUncut) {
  for (const Case& of : cases())
    for (const auto& parameter : make(of).all) {
      EXPECT_EQ(parameter->sharding.dim, -1);
      EXPECT_EQ(parameter->sharding.sum, Sum::kNobody);
      EXPECT_TRUE(parameter->sharding.counted && parameter->sharding.full_shape.empty());
    }
}

TEST(Weights, StagesTogetherHoldTheWholeModelInOrder) {
  for (const bool tied : {false, true})
    for (const Head head : {Head::kLanguageModel, Head::kScore}) {
      const Case of{small_config("qwen2", tied), head, {}};
      const RunWeights whole = make(of);
      for (const int size : {1, 2}) {
        const TensorShard tp{size - 1, size};
        const RunWeights first = make(of, tp, {.first = 0, .count = 1, .embedding = true, .head = false});
        const RunWeights middle = make(of, tp, {.first = 1, .count = 0, .embedding = false, .head = false});
        const RunWeights last = make(of, tp, {.first = 1, .count = -1, .embedding = false, .head = true});
        EXPECT_FALSE(first.norm || first.head || last.embedding);
        EXPECT_TRUE(middle.all.empty());
        std::vector<ops::ParameterPtr> both = first.all;
        both.insert(both.end(), last.all.begin(), last.all.end());
        if (tied && head == Head::kLanguageModel) {
          EXPECT_EQ(last.head->name, kEmbeddingWeight);
          EXPECT_FALSE(last.head->sharding.counted);
          EXPECT_TRUE(at::equal(last.head->value, first.embedding->value));
          both.pop_back();
        }
        ASSERT_EQ(both.size(), whole.all.size());
        for (size_t i = 0; i < both.size(); ++i) {
          EXPECT_EQ(both[i]->name, whole.all[i]->name);
          EXPECT_TRUE(at::equal(both[i]->value, place_in(whole.all[i]->value, *both[i]))) << both[i]->name;
        }
      }
    }
}

TEST(Weights, ListOfTheWholeModelIsWhatOneRankHolds) {
  for (const Case& of : cases()) {
    const RunWeights whole = make(of);
    const auto list = arch::parameters(of.config, of.head);
    ASSERT_EQ(list.size(), whole.all.size());
    for (size_t i = 0; i < list.size(); ++i) {
      EXPECT_EQ(list[i].first, whole.all[i]->name);
      EXPECT_EQ(list[i].second, whole.all[i]->value.sizes().vec());
    }
  }
}

TEST(Weights, TheCountOfParametersIsWhatIsAllocated) {
  for (const std::string family : {"llama", "qwen2", "qwen3"})
    for (const bool tied : {false, true})
      for (const Head head : {Head::kLanguageModel, Head::kScore}) {
        const arch::Model model = small_config(family, tied);
        int64_t elements = 0;
        for (const auto& parameter : RunWeights::allocate(model, at::kFloat, head, false).all)
          elements += parameter->value.numel();
        EXPECT_EQ(arch::parameter_count(model, head), elements) << family << " tied " << tied;
      }
}

std::string refusal(const arch::Model& config, int tp) {
  return test::refusal<ConfigError>([&] { arch::check_tensor_parallel(config, tp); });
}

TEST(Weights, ADegreeThatDoesNotFitIsRefusedWithTheNearestOnes) {
  arch::Model config = small_config("llama");
  EXPECT_NE(refusal(config, 3).find("parallel.tp: 3 does not fit"), std::string::npos);
  EXPECT_NE(refusal(config, 3).find("use 2 or 4"), std::string::npos);
  EXPECT_TRUE(refusal(config, 8).ends_with("use 4")) << refusal(config, 8);
  EXPECT_NE(refusal(config, 0).find("parallel.tp"), std::string::npos);
  set_heads(config, 6, 3);
  EXPECT_NE(refusal(config, 2).find("use 1 or 3"), std::string::npos);  // 2 divides the heads, but 3 would be cut
  EXPECT_THROW(RunWeights::allocate(config, at::kFloat, Head::kScore, true, {}, {0, 2}), ConfigError);
}

TEST(Weights, LayersAndRanksThatAreNotThereAreRefused) {
  const Case of{small_config("llama"), Head::kScore, {}};
  EXPECT_THROW(make(of, {}, {.first = 1, .count = 2}), ShapeError);
  EXPECT_THROW(make(of, {}, {.first = -1, .count = 1}), ShapeError);
  EXPECT_THROW(make(of, {}, {.first = 3}), ShapeError);
  EXPECT_THROW(make(of, {2, 2}), ShapeError);
}

}  // namespace
}  // namespace fpdist::model
