#include <gtest/gtest.h>

#include <array>

#include "src/plan/costs/costs_file.hpp"
#include "src/plan/costs/unit_cost.hpp"

namespace fpdist::plan {
namespace {

TEST(CostTable, CountsFlopsOfADecoder) {
  const arch::ModelShape shape{2, 8, 16, 4, 2, 2, 100};
  const CostTable table = forward_cost(stage_costs(shape));
  EXPECT_EQ(table.per_row, 2 * 2 * (8 * 8 + 8 * 4 + 8 * 4 + 8 * 8 + 3 * 8 * 16));  // q, k, v, out, mlp
  EXPECT_EQ(table.per_pair, 2 * 4 * 4 * 2);
  EXPECT_EQ(table.per_edge, 2 * 8 * 100);
}

TEST(FrozenWeights, WeightGradientsCostWhatTheProductsDoAndTheHeadNone) {
  const arch::ModelShape shape{2, 8, 16, 4, 2, 2, 100};
  const StageCosts whole = stage_costs(shape), frozen = with_frozen_weights(whole, 2 * 30);  // 30 elements a layer
  EXPECT_EQ(frozen.per_row, whole.per_row + 60);
  const UnitCost unit = unit_cost(frozen, {.rows = 10, .pairs = 0, .edges = 5});
  const int64_t linear = frozen.per_row * (10 + frozen.overhead_rows);
  EXPECT_EQ(unit.layer[kForwardPass], linear);
  EXPECT_EQ(unit.layer[kInputPass], linear);
  EXPECT_NEAR(static_cast<double>(unit.layer[kWeightPass]), 60.0 * (10 + 256), 0.001 * static_cast<double>(linear));
  EXPECT_EQ(unit.head, (std::array<int64_t, 3>{5 * whole.per_edge, 5 * whole.per_edge, 0}));
  const LayerWork work = layer_work(frozen, {.rows = 10, .pairs = 0, .edges = 5});
  EXPECT_EQ(work.layer, 2 * frozen.per_row * 10 + part_of(frozen.per_row * 10, frozen.weight_permille));
  EXPECT_EQ(work.head, 2 * 5 * whole.per_edge);
  EXPECT_EQ(to_text(parse_costs(to_text(frozen), "costs")), to_text(frozen));
}

TEST(StageCosts, KeysOfAPrefixArePairsOfEveryRow) {
  StageCosts costs{.layers = 2, .per_row = 100, .forward_pair = 3, .backward_pair = 7, .per_edge = 11};
  costs.recompute = true;
  StageCosts behind = costs;
  behind.prefix_keys = 5;
  const Amount work{.rows = 8, .pairs = 30, .edges = 4}, more{.rows = 8, .pairs = 30 + 5 * 8, .edges = 4};
  EXPECT_EQ(unit_cost(behind, work).layer, unit_cost(costs, more).layer);
  EXPECT_EQ(total_work(behind, work), total_work(costs, more));
  EXPECT_EQ(forward_cost(behind).cost(8, 30, 4), forward_cost(costs).cost(8, 30 + 5 * 8, 4));
}

}  // namespace
}  // namespace fpdist::plan
