#include <gtest/gtest.h>

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

}  // namespace
}  // namespace fpdist::plan
