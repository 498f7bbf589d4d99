#include "src/plan/costs/stage_layers.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::plan {
namespace {

using Layers = std::vector<int64_t>;

ParallelOptions mesh(int pp, int v = 1, Layers layers = {}) {
  ParallelOptions options;
  options.pp = pp;
  options.virtual_stages = v;
  options.layers = std::move(layers);
  return options;
}

/// An 8B model's step over `rows` rows, `pairs` visible pairs and `edges` loss edges, in half pairs of attention.
LayerWork work_of(int64_t rows, int64_t pairs, int64_t edges) {
  return {32, 3 * 53200 * rows + 7 * pairs, 0, 3 * 128212 * edges};
}

TEST(StageLayers, HeadAndLayersBalanceAsPublished) {
  const LayerWork gsm8k = work_of(88162, 8932506, 71585);
  EXPECT_EQ(stage_layers(gsm8k, mesh(4)), (Layers{9, 8, 8, 7}));
  EXPECT_EQ(stage_layers(gsm8k, mesh(4, 2)), (Layers{5, 4, 4, 4, 4, 4, 4, 3}));
  EXPECT_EQ(imbalance_permille(gsm8k, {9, 8, 8, 7}, 4), 1060);
  const LayerWork long_cot = work_of(1991564, 5995672264, 1971750);
  EXPECT_EQ(stage_layers(long_cot, mesh(4)), (Layers{9, 9, 8, 6}));
  EXPECT_EQ(stage_layers(long_cot, mesh(4, 2)), (Layers{5, 5, 4, 4, 4, 4, 4, 2}));
  const LayerWork long_prompt = work_of(750278, 4199005040, 303103);
  EXPECT_EQ(stage_layers(long_prompt, mesh(4)), (Layers{8, 8, 8, 8}));
  EXPECT_EQ(stage_layers(long_prompt, mesh(4, 2)), (Layers{4, 4, 4, 4, 4, 4, 4, 4}));
  const LayerWork mixed_128 = work_of(1322622, 2451098594, 1167994);
  EXPECT_EQ(stage_layers(mixed_128, mesh(8)), (Layers{5, 4, 4, 4, 4, 4, 4, 3}));
  EXPECT_EQ(stage_layers(mixed_128, mesh(8, 2)), (Layers{3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1}));
  EXPECT_EQ(imbalance_permille(mixed_128, {5, 4, 4, 4, 4, 4, 4, 3}, 8), 1178);
}

TEST(StageLayers, OneStageHoldsEverything) {
  EXPECT_EQ(stage_layers({7, 10, 3, 50}, mesh(1)), (Layers{7}));
  EXPECT_EQ(stage_layers({8, 10, 0, 0}, mesh(1, 2)), (Layers{4, 4}));
}

TEST(StageLayers, AnEmbeddingThatCostsLightensTheFirstStage) {
  EXPECT_EQ(stage_layers({8, 10, 20, 0}, mesh(4)), (Layers{1, 3, 2, 2}));
}

TEST(StageLayers, EveryRunButTheLastHasALayerAndTheSumIsTheModel) {
  for (int pp = 1; pp <= 8; ++pp)
    for (int v = 1; v <= 4; ++v)
      for (const int64_t head : {0, 7, 35, 1000}) {
        const int64_t layers = 33;
        if (layers < pp * v) continue;
        const Layers split = stage_layers({layers, 10, 5, head}, mesh(pp, v));
        ASSERT_EQ(split.size(), index(pp * v));
        ASSERT_EQ(std::accumulate(split.begin(), split.end(), int64_t{0}), layers);
        for (size_t run = 0; run + 1 < split.size(); ++run) ASSERT_GE(split[run], 1);
      }
}

std::string refusal(const LayerWork& work, const ParallelOptions& options) {
  return test::refusal<ConfigError>([&] { stage_layers(work, options); });
}

TEST(StageLayers, GivenLayersAreTakenOrRefusedByName) {
  const LayerWork work{8, 10, 0, 20};
  EXPECT_EQ(stage_layers(work, mesh(2, 1, {7, 1})), (Layers{7, 1}));
  EXPECT_EQ(stage_layers(work, mesh(2, 1, {8, 0})), (Layers{8, 0}));
  EXPECT_EQ(refusal(work, mesh(2, 1, {8})),
            "parallel.layers lists 1 runs of layers, pp * virtual_stages is 2: give one number a run, in model order");
  EXPECT_EQ(refusal(work, mesh(2, 1, {4, 5})),
            "parallel.layers (4,5) adds up to 9, the model has 8 layers: give runs that add up to that, or none to "
            "split them by cost");
  EXPECT_NE(refusal(work, mesh(2, 1, {0, 8})).find("run 0 has 0 layers"), std::string::npos);
  EXPECT_NE(refusal(work, mesh(2, 1, {9, -1})).find("run 0 has 9 layers, the model 8"), std::string::npos);
  EXPECT_NE(refusal(work, mesh(2, 1, {8, -1})).find("run 1 has -1 layers"), std::string::npos);
  EXPECT_NE(refusal(work, mesh(1, 1, {0})).find("run 0 has 0 layers"), std::string::npos);
  EXPECT_NE(refusal(work, mesh(3, 3)).find("9 runs of layers, the model has 8 layers: set parallel.pp to at most 2"),
            std::string::npos);
  EXPECT_NE(refusal(work, mesh(-1)).find("parallel.pp is -1"), std::string::npos);
  EXPECT_NE(refusal(work, mesh(2, 0)).find("parallel.virtual_stages is 0"), std::string::npos);
}

}  // namespace
}  // namespace fpdist::plan
