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

/// Simulated operations of a plan: about 9 ms. Half as many: steps are 0.26 % longer in the mean; twice: 0.17 %
/// shorter.
constexpr int64_t kEffort = 2300000;
/// And for each sample above kMany, where the candidates alone would eat it up: without, steps of 10,000 samples are up
/// to 2 % longer.
constexpr int64_t kEffortOfSample = 700, kMany = 1024;
/// Samples: so few that a search can be stuck. Without shakes, steps of 4 to 20 samples are 0.11 % longer, up to 2 %.
constexpr int64_t kFew = 24;
/// Samples that deserve all the effort; fewer get a share each, as they have less to search (64: 0.17 % longer).
constexpr int64_t kWorthAll = 16;
/// A portfolio, or a draft, that is behind by more than one part of so many cannot catch up: no local search has been
/// seen to gain 5 %. Were none dropped, half the effort would be lost (0.21 % longer, up to 2.4 %); were 20 % too much,
/// 0.03 %. Of what the first replica finds, all within 2 % is worth a try on the next.
constexpr int64_t kFarBehind = 20, kBehind = 50;
/// Candidates that a replica tries from those that won before it, and so many times as many where nothing has won yet;
/// 2 to 24 and 8 to 32 times make no difference of 0.05 %, 4 times costs 0.03 %.
constexpr int kTries = 6, kTriesFromNothing = 16 * kTries;
/// Winners that are remembered: replicas are alike, so one is nearly enough (0.03 % longer).
constexpr size_t kWinners = 3;

/// Bound that no packing without a pipeline beats: the costliest atom alone, and everything once, evenly spread. 0 with
/// a pipeline.
int64_t flat_bound(const PackProblem& problem, int64_t replicas) {
  if (problem.stages > 1) return 0;
  const auto time_of = [&](const Amount& work, int64_t packs) {
    return total_work(problem.costs, work) + overhead_work(problem.costs) * packs;
  };
  const Amount all = problem.tree.unique();
  const int64_t packs = (all.rows + problem.most_rows - 1) / problem.most_rows;
  int64_t bound = (time_of(all, packs) + replicas - 1) / replicas;
  Slicer slicer(problem.tree, problem.costs);
  for (const auto& atom : by_label(problem.atom_of, all_samples(problem.tree)))
    bound = std::max(bound, time_of(slicer.whole(atom), 1));
  return bound;
}

/// Whether the first cannot catch up with the second any more.
bool is_hopeless(int64_t makespan, int64_t other, int64_t parts) {
  return makespan > other && makespan - other > other / parts;
}

/// Drops the one of two portfolios that is behind by more than 1/parts.
void drop_hopeless(std::vector<Portfolio>& portfolios, int64_t (*makespan)(const Portfolio&), int64_t parts) {
  for (size_t f = portfolios.size(); portfolios.size() > 1 && f-- > 0;)
    if (is_hopeless(makespan(portfolios[f]), makespan(portfolios[1 - f]), parts))
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
    // The first replica, which has to start from nothing, gets three shares: with one, steps of thousands of samples
    // are 0.07 % longer.
    const int64_t share = effort * static_cast<int64_t>(r + 3) / static_cast<int64_t>(dealt.size() + 2);
    for (size_t f = 0; f < portfolios.size(); ++f) {
      const int64_t spent = pricer.effort(), left = std::max<int64_t>(0, share - spent);
      portfolios[f].add(search.get(), spent + left / static_cast<int64_t>(portfolios.size() - f));
    }
    drop_hopeless(
        portfolios, [](const Portfolio& one) { return one.slowest_added(); }, kFarBehind);
  }
  return portfolios;
}

}  // namespace

int64_t search_budget(const PackProblem& problem, const PlannerOptions& options) {
  const auto samples = static_cast<int64_t>(problem.tree.sample.size());
  const int64_t all =
      std::min(kEffort, samples * kEffort / kWorthAll) + std::max<int64_t>(0, samples - kMany) * kEffortOfSample;
  const int64_t effort = all / options.thrift;
  // Without a pipeline there is no order to find, only the deal: an eighth (a quarter: 0.15 % shorter, a 32nd: 0.26 %
  // longer). Hard where a handful of samples is all there is: up to four times as much, ended by flat_bound mostly.
  if (problem.stages == 1) return samples <= kFew ? effort * std::min(samples, kWorthAll) / 4 : effort / 8;
  return effort;
}

int64_t Portfolio::makespan() const {
  int64_t slowest = 0;
  for (const ReplicaDraft& one : replica) slowest = std::max(slowest, one.makespan);
  return slowest;
}

void Portfolio::add(ReplicaSearch* search, int64_t most_effort) {
  ReplicaDraft& draft = replica.emplace_back();
  draft.makespan = 0;
  if (search) draft = plan(*search, most_effort);
  slowest_added_ = std::max(slowest_added_, draft.makespan);
}

ReplicaDraft Portfolio::plan(ReplicaSearch& search, int64_t most_effort) {
  search.take_rows_needed();
  Descent found = search.descend(won_, kTries, most_effort);
  if (found.draft.makespan == kNever) {
    std::vector<Descent> all = search.run(sliced_, kTriesFromNothing, most_effort);
    if (all.empty() && sliced_) all = search.run(false, kTriesFromNothing, most_effort);  // too few rows to slice
    if (all.empty()) {
      rows_needed_ = std::max(rows_needed_, search.take_rows_needed());
      return {};
    }
    for (const Descent& one : all)
      if (!is_hopeless(one.draft.makespan, all[0].draft.makespan, kBehind)) won_.push_back(one.candidate);
    found = std::move(all[0]);
  }
  // The latest winner first; what has not won for long is forgotten.
  const auto before = std::find(won_.begin(), won_.end(), found.candidate);
  if (before != won_.end()) won_.erase(before);
  won_.insert(won_.begin(), found.candidate);
  if (won_.size() > kWinners) won_.pop_back();
  return std::move(found.draft);
}

Portfolio best_portfolio(PackProblem& problem, Pricer& pricer, const PlannerOptions& options) {
  const int64_t effort = search_budget(problem, options);
  // Two thirds for candidates, what they leave for the local search: a third or all but a ninth cost 0.06 %.
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
  if (portfolios.size() > 1) {  // both show what an eighth each gets them (a quarter, a 32nd: 0.03 % either way)
    if (portfolios[0].rows_needed() > portfolios[1].rows_needed()) std::swap(portfolios[0], portfolios[1]);
    for (Portfolio& portfolio : portfolios) refine(portfolio, options.effort * effort / 8);
    drop_hopeless(
        portfolios, [](const Portfolio& one) { return one.makespan(); }, kNever);
  }
  // An eighth at least where the candidates of thousands of samples took more than theirs.
  const int64_t left = options.effort * effort - pricer.effort();
  refine(portfolios[0], options.effort > 0 ? std::max(left, effort / 8) : 0);
  return std::move(portfolios[0]);
}

}  // namespace fpdist::plan
