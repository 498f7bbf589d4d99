#include "src/main/bench/group_work.hpp"

#include "src/plan/step_tree.hpp"

namespace fpdist::bench {

plan::Amount work_of(std::span<const data::Group> groups, bool share) {
  const plan::StepTree step = plan::make_step_tree(groups, share);
  const plan::Amount unique = step.tree.unique();
  return {unique.rows, unique.pairs, step.totals.edges};
}

}  // namespace fpdist::bench
