#pragma once
// Tests: steps for make_step_plan.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fpdist/data/sample.hpp"
#include "fpdist/plan/step_plan.hpp"

namespace fpdist::test {

inline const plan::StageCosts kCosts{
    .layers = 1, .per_row = 1000, .forward_pair = 7, .per_edge = 100, .overhead_rows = 5};

inline plan::ParallelOptions replicas(int dp) {
  plan::ParallelOptions options;
  options.dp = dp;
  return options;
}

/// A prompt of `prompt` tokens, shared with no other group, and completions that part at their first token.
inline data::Group group_of(int64_t id, std::vector<int64_t> completions, int64_t prompt) {
  data::Group group;
  group.id = id;
  int32_t next = 1000 * static_cast<int32_t>(id + 1);
  for (const int64_t length : completions) {
    data::Sample& sample = group.sample.emplace_back();
    sample.token.assign(static_cast<size_t>(prompt), static_cast<int32_t>(id));
    sample.target.assign(static_cast<size_t>(prompt), data::kIgnore);
    for (int64_t t = 0; t < length; ++t) sample.token.push_back(next), sample.target.push_back(next++);
  }
  return group;
}

}  // namespace fpdist::test
