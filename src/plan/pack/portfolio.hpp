#pragma once
// plan: whole packs against packs in slices, each searched for all replicas.

#include <cstdint>
#include <vector>

#include "src/plan/pack/draft.hpp"
#include "src/plan/pack/pipeline_plan.hpp"
#include "src/plan/pack/replica_search.hpp"

namespace fpdist::plan {

/// The drafts of all replicas, all packs whole or all in slices: two searches, as from one the other is seldom found.
class Portfolio {
 public:
  explicit Portfolio(bool sliced) : sliced_(sliced) {}

  /// Plans one more replica (null: one without samples). What suited the replicas before is where the search starts.
  void add(ReplicaSearch* search, int64_t most_effort);
  int64_t makespan() const;
  /// The slowest of the replicas as they were added.
  int64_t slowest_added() const { return slowest_added_; }
  /// Rows in flight with which there would be drafts where there are none; kNever when that is not what is missing.
  int64_t rows_needed() const { return rows_needed_; }

  std::vector<ReplicaDraft> replica;
  std::vector<int64_t> layers;  ///< empty: by cost

 private:
  ReplicaDraft plan(ReplicaSearch& search, int64_t most_effort);

  bool sliced_;
  int64_t rows_needed_ = 0, slowest_added_ = 0;
  std::vector<Candidate> won_;
};

/// Simulated operations after which the search for a plan ends.
int64_t search_budget(const PackProblem& problem, const PlannerOptions& options);

/// The better portfolio after a local search; problem.layers are its layers. The makespan is kNever when nothing is
/// allowed.
Portfolio best_portfolio(PackProblem& problem, Pricer& pricer, const PlannerOptions& options);

}  // namespace fpdist::plan
