#pragma once
// Tests: random cases for the laws of context plans: forests, rank counts, head splits, methods and chunk sizes.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "src/plan/context/context_plan.hpp"
#include "tests/support/plan/context_trees.hpp"

namespace fpdist::test {

struct ContextCase {
  std::vector<prefix::Node> node;
  plan::ParallelOptions options;
  plan::CpCosts costs;
  int32_t rows() const { return node.empty() ? 0 : node.back().end; }
};

inline ContextCase random_case(uint64_t seed) {
  Rng rng(seed, 4);
  ContextCase one;
  one.node = random_forest(rng, seed % 5 == 0 ? 2 : 30, seed % 7 == 0 ? 90 : 12);
  one.options.cp =
      static_cast<int>(seed % 40 == 0 ? 65 + rng.below(9) : 1 + rng.below(9));  // more than a word of teams
  one.options.cp_method = static_cast<plan::CpMethod>(rng.below(4));
  one.options.cp_chunk = static_cast<int64_t>(1 + rng.below(rng.below(2) ? 8 : 64));
  const int heads = 1 << rng.below(3);
  one.costs = {8, static_cast<int64_t>(8 + rng.below(32)), heads};
  if (const int split = 1 << rng.below(3); rng.below(2) && heads % split == 0 && one.options.cp % split == 0)
    one.options.ulysses = split;
  return one;
}

/// Runs `law(case, plan)` over random cases.
template <typename Law>
void for_random_plans(Law law) {
  for (uint64_t seed = 0; seed < 1200; ++seed) {
    const ContextCase one = random_case(seed);
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ": " << one.rows() << " rows, " << one.node.size()
                                      << " nodes, cp " << one.options.cp << ", ulysses " << one.options.ulysses
                                      << ", method " << name_of(one.options.cp_method));
    law(one, plan::plan_context(one.node, one.options, one.costs));
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace fpdist::test
