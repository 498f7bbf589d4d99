// Context plans of the design's trees: balance, keys received against the bound, and the elements that ring, group-cast
// and head exchange would move per rank and layer. Predictions of the planner; nothing is sent.

#include "src/plan/context/context_plan.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <vector>

#include "src/core/clock.hpp"
#include "tests/support/plan/context_trees.hpp"

namespace {

using namespace fpdist;
using namespace fpdist::plan;
using fpdist::test::design_trees, fpdist::test::NamedTree;

constexpr int kRanks = 8;
constexpr CpHeads kHeads{32, 8, 128};

double over_mean(const std::vector<int64_t>& part, int64_t total) {
  return static_cast<double>(*std::max_element(part.begin(), part.end())) * static_cast<double>(part.size()) /
         static_cast<double>(total);
}

void report(const NamedTree& tree, CpMethod method) {
  ParallelOptions options;
  options.cp = kRanks;
  options.cp_chunk = 256;
  options.cp_method = method;
  const int64_t key = 2 * kHeads.key * kHeads.dim, all = key + 2 * kHeads.query * kHeads.dim;
  const auto start = Clock::now();
  const CpPlan plan = plan_context(tree.node, options, {key, all, kRanks});
  const double took_ms = 1e3 * seconds_since(start);
  const CpLoad load = load_of(plan, tree.node);
  const CpTraffic traffic = predict_traffic(plan, kHeads);
  int64_t forward = 0, backward = 0;
  for (size_t rank = 0; rank < kRanks; ++rank) {
    forward = std::max(forward, traffic.forward_sent(rank));
    backward = std::max(backward, traffic.backward_sent(rank));
  }
  std::cout << std::left << std::setw(26) << tree.name << std::setw(10) << name_of(method) << std::right << std::setw(3)
            << plan.ulysses << std::fixed << std::setprecision(3) << std::setw(7)
            << over_mean(load.pairs, load.total_pairs) << std::setw(7) << over_mean(load.rows, load.total_rows)
            << std::setw(8) << *std::max_element(load.received.begin(), load.received.end()) << std::setw(8)
            << received_bound(tree.node, plan.teams()) << std::setw(4) << plan.round.front().size()
            << std::setprecision(1) << std::setw(8) << static_cast<double>(forward) / 1e6 << std::setw(8)
            << static_cast<double>(backward) / 1e6 << std::setprecision(2) << std::setw(7) << took_ms << "\n";
}

}  // namespace

int main() {
  std::cout
      << "8 cp ranks, chunk 256, 32 query and 8 key-value heads x 128. U: ranks that exchange heads; pairs, rows: "
         "max/mean;\nreceived, bound: key rows of the worst team; rd: rounds; fwd, bwd: million elements that the "
         "worst rank sends.\n\n"
      << "tree                      method     U  pairs   rows received   bound  rd     fwd     bwd     ms\n";
  for (const NamedTree& tree : design_trees())
    for (const CpMethod method : {CpMethod::kRing, CpMethod::kGroupCast, CpMethod::kUlysses, CpMethod::kAuto})
      report(tree, method);
}
