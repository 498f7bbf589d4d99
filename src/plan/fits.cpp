#include "src/plan/fits.hpp"

#include <algorithm>
#include <vector>

#include "src/plan/pack/pipeline_plan.hpp"
#include "src/plan/step_tree.hpp"
#include "src/prefix/forest.hpp"

namespace fpdist::plan {

int64_t pack_rows_needed(const data::Group& group, const PlanningOptions& options, int64_t enough) {
  int64_t longest = 0, all = 0;
  for (const data::Sample& sample : group.sample) {
    longest = std::max(longest, sample.length());
    all += sample.length();
  }
  const bool stays = options.atomic == Atomic::kLines || (options.atomic == Atomic::kPairs && group.sample.size() == 2);
  if (!stays) return longest;
  if (all <= enough) return all;
  std::vector<prefix::TokenSpan> tokens;
  for (const data::Sample& sample : group.sample) tokens.emplace_back(sample.token);
  return prefix::make_forest(tokens, options.pack.share_prefix).tokens();
}

bool always_keeps_in_flight(int64_t rows, const PlanningOptions& options) {
  if (options.pack.max_in_flight == 0) return true;
  PlannerOptions one_a_pack = planner_options(options.atomic, options.parallel, options.pack);
  one_a_pack.max_tokens = rows, one_a_pack.max_in_flight = 0;
  return most_rows_in_flight(one_a_pack) <= options.pack.max_in_flight;
}

int64_t in_flight_needed(std::span<const data::Group> groups, const PlanningOptions& options) {
  const StepTree step = make_step_tree(groups, options.pack.share_prefix);
  return in_flight_needed(step.tree, options.costs, planner_options(options.atomic, options.parallel, options.pack));
}

}  // namespace fpdist::plan
