#include "src/plan/pack/portfolio.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "src/plan/pack/deal.hpp"
#include "src/plan/pack/layer_search.hpp"
#include "src/plan/pack/local_search.hpp"
#include "src/plan/pack/slicer.hpp"

namespace fpdist::plan {
namespace {

/// Simulated operations of a plan, more for each sample above 1024. What the search for candidates leaves is for the
/// local search.
constexpr int64_t kEffort = 2300000, kEffortOfSample = 700;
constexpr int64_t kFew = 24;  // samples: so few that a search can be stuck

int64_t effort_of(const PackProblem& problem) {
  const auto samples = static_cast<int64_t>(problem.tree.sample.size());
  const int64_t effort =
      std::min(kEffort, samples * kEffort / 16) + std::max<int64_t>(0, samples - 1024) * kEffortOfSample;
  // Without a pipeline there is no order to find, only the deal: hard where a handful of samples is all there is.
  if (problem.stages == 1) return samples <= kFew ? effort * std::min<int64_t>(samples, 16) / 4 : effort / 8;
  return effort;
}

/// No packing without a pipeline takes less: the costliest atom alone, and everything once, evenly spread. 0 with one.
int64_t flat_bound(const PackProblem& problem, int64_t replicas) {
  if (problem.stages > 1) return 0;
  const auto time_of = [&](const Amount& work, int64_t packs) {
    return total_work(problem.costs, work) +
           3 * problem.costs.per_row * problem.costs.overhead_rows * problem.costs.layers * packs;
  };
  const Amount all = problem.tree.unique();
  const int64_t packs = (all.rows + problem.most_rows - 1) / problem.most_rows;
  int64_t bound = (time_of(all, packs) + replicas - 1) / replicas;
  Slicer slicer(problem.tree, problem.costs);
  for (const auto& atom : by_label(problem.atom_of, all_samples(problem.tree)))
    bound = std::max(bound, time_of(slicer.whole(atom), 1));
  return bound;
}

/// Whether the first cannot catch up with the second any more: no local search has been seen to gain as much.
bool is_hopeless(int64_t makespan, int64_t other, int64_t parts) {
  return makespan > other && makespan - other > other / parts;
}

/// Of two portfolios the one that is behind by more than 1/parts goes.
void drop_hopeless(std::vector<Portfolio>& portfolios, int64_t parts) {
  for (size_t f = portfolios.size(); portfolios.size() > 1 && f-- > 0;)
    if (is_hopeless(portfolios[f].makespan(), portfolios[1 - f].makespan(), parts))
      portfolios.erase(portfolios.begin() + static_cast<std::ptrdiff_t>(f));
}

/// Candidates for every replica, whole and sliced, with at most `effort` operations.
std::vector<Portfolio> all_portfolios(const PackProblem& problem, Pricer& pricer, const PlannerOptions& options,
                                      int64_t effort) {
  std::vector<Portfolio> portfolios;
  for (const bool sliced : {false, true})
    if (!sliced || options.may_slice) portfolios.emplace_back(sliced);
  const std::vector<std::vector<int32_t>> dealt = deal(problem, options.replicas);
  for (size_t r = 0; r < dealt.size(); ++r) {
    std::unique_ptr<ReplicaSearch> search;
    if (!dealt[r].empty()) search = std::make_unique<ReplicaSearch>(problem, pricer, dealt[r]);
    // The first replica, which has to start from nothing, gets three shares.
    const int64_t share = effort * static_cast<int64_t>(r + 3) / static_cast<int64_t>(dealt.size() + 2);
    for (size_t f = 0; f < portfolios.size(); ++f) {
      const int64_t spent = pricer.effort(), left = std::max<int64_t>(0, share - spent);
      portfolios[f].add(search.get(), spent + left / static_cast<int64_t>(portfolios.size() - f));
    }
    drop_hopeless(portfolios, 20);
  }
  return portfolios;
}

}  // namespace

int64_t Portfolio::makespan() const {
  int64_t slowest = 0;
  for (const ReplicaDraft& one : replica) slowest = std::max(slowest, one.makespan);
  return slowest;
}

void Portfolio::add(ReplicaSearch* search, int64_t most_effort) {
  ReplicaDraft& draft = replica.emplace_back();
  draft.makespan = search ? kNever : 0;
  if (!search) return;
  constexpr int kTries = 6;
  constexpr size_t kStarts = 3;
  search->take_rows_needed();
  Descent found = search->descend(won_, kTries, most_effort);
  if (found.draft.makespan == kNever) {
    std::vector<Descent> all = search->run(sliced_, 16 * kTries, most_effort);
    if (all.empty() && sliced_) all = search->run(false, 16 * kTries, most_effort);  // too few rows to slice
    if (all.empty()) {
      rows_needed_ = std::max(rows_needed_, search->take_rows_needed());
      return;
    }
    for (const Descent& one : all)
      if (!is_hopeless(one.draft.makespan, all[0].draft.makespan, 50)) won_.push_back(one.candidate);
    found = std::move(all[0]);
  }
  // The latest winner first; what has not won for long is forgotten.
  const auto before = std::find(won_.begin(), won_.end(), found.candidate);
  if (before != won_.end()) won_.erase(before);
  won_.insert(won_.begin(), found.candidate);
  if (won_.size() > kStarts) won_.pop_back();
  draft = std::move(found.draft);
}

Portfolio best_portfolio(PackProblem& problem, Pricer& pricer, const PlannerOptions& options) {
  const int64_t effort = effort_of(problem);
  std::vector<Portfolio> portfolios = all_portfolios(problem, pricer, options, effort * 2 / 3);
  const bool improves_layers = options.search_layers && options.parallel.layers.empty();
  const bool is_small = static_cast<int64_t>(problem.tree.sample.size()) <= kFew;
  const std::vector<int64_t> by_cost = problem.layers;
  const int64_t bound = is_small ? flat_bound(problem, options.replicas) : 0;
  const auto refine = [&](Portfolio& portfolio, int64_t operations) {
    problem.layers = portfolio.layers.empty() ? by_cost : portfolio.layers;
    if (improves_layers && portfolio.layers.empty()) improve_layers(problem, pricer, portfolio.replica);
    LocalSearch search(problem, pricer, portfolio.replica);
    is_small ? search.run_with_shakes(operations, bound) : search.run(operations);
    portfolio.layers = problem.layers;
  };
  if (portfolios.size() > 1) {
    if (portfolios[0].rows_needed() > portfolios[1].rows_needed()) std::swap(portfolios[0], portfolios[1]);
    for (Portfolio& portfolio : portfolios) refine(portfolio, options.effort * effort / 8);
    drop_hopeless(portfolios, kNever);
  }
  const int64_t left = options.effort * effort - pricer.effort();
  refine(portfolios[0], options.effort > 0 ? std::max(left, effort / 8) : 0);
  return std::move(portfolios[0]);
}

}  // namespace fpdist::plan
