// The planner alone: lengths in, packs and op lists out. Links fpdist::planning, which needs neither torch nor MPI.
//   example_planner [max_tokens]

#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <iostream>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/plan/schedule.hpp"
#include "fpdist/plan/step_plan.hpp"

namespace {

using namespace fpdist;

/// A group: completions of these lengths behind `system`, which all groups share, and a prompt of its own. Prefixes are
/// found from tokens, and lengths are all that counts here: every token that is not shared is a new number.
data::Group group_of(int32_t& next, const std::vector<int32_t>& system, int prompt,
                     std::initializer_list<int> completions) {
  data::Group group;
  std::vector<int32_t> shared = system;
  for (int t = 0; t < prompt; ++t) shared.push_back(next++);
  for (const int length : completions) {
    data::Sample& sample = group.sample.emplace_back();
    sample.token = shared;
    sample.target.assign(shared.size(), data::kIgnore);
    sample.prompt_length = static_cast<int32_t>(shared.size());
    for (int t = 0; t < length; ++t) {
      sample.token.push_back(next);
      sample.target.push_back(next++);
    }
  }
  return group;
}

void print(const plan::StepPlan& plan) {
  std::cout << plan.totals.samples << " samples, " << plan.totals.tokens_logical << " tokens, "
            << plan.totals.tokens_computed << " rows computed: sharing " << plan.totals.sharing_ratio() << "x\n";
  for (size_t d = 0; d < plan.replica.size(); ++d) {
    std::cout << "replica " << d << '\n';
    for (const plan::PackPlan& pack : plan.replica[d]) {
      std::cout << "  pack of " << pack.rows << " rows in " << pack.slice_end.size() << " slices:";
      for (const plan::MemberRef& member : pack.member) std::cout << ' ' << member.group << '.' << member.index;
      std::cout << '\n';
    }
    const auto ops = plan::pipeline_ops(plan.pipeline(static_cast<int>(d)));
    std::cout << plan::to_text(ops);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<int32_t> system(100, 0);
  int32_t next = 1;
  std::vector<data::Group> groups;
  for (int i = 0; i < 6; ++i) {
    groups.push_back(group_of(next, system, 200 + 10 * i, {60, 80, 40, 120}));
    groups.back().id = i;
  }
  plan::ParallelOptions parallel;
  parallel.dp = 2, parallel.pp = 2;
  plan::PackOptions pack;
  pack.max_tokens = argc > 1 ? std::atoll(argv[1]) : 1024;
  const plan::StageCosts costs = plan::stage_costs(
      {.layers = 8, .hidden = 1024, .intermediate = 4096, .heads = 16, .kv_heads = 16, .head_dim = 64, .vocab = 32000});
  try {
    print(plan::make_step_plan(groups, plan::Atomic::kSamples, parallel, costs, pack));
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(error.exit_code());
  }
}
