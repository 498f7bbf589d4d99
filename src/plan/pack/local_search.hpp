#pragma once
// plan: small changes to finished drafts, each judged by the simulator. The slowest replica is changed, alone or
// against another one, and a change stays when the slower of those that it touches gets no slower.

#include <cstdint>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "src/plan/pack/draft.hpp"
#include "src/plan/pack/ranking.hpp"

namespace fpdist::plan {

class LocalSearch {
 public:
  LocalSearch(const PackProblem& problem, Pricer& pricer, std::vector<ReplicaDraft>& replicas)
      : problem_(problem), pricer_(pricer), replicas_(replicas), ranking_(replicas.size()) {
    for (size_t r = 0; r < replicas_.size(); ++r) rank(r);
  }

  /// Changes drafts until `operations` more have been simulated.
  void run(int64_t operations);
  /// Changes drafts in rounds, each of which first forgets a little of what was reached; for steps that are small
  /// enough to be stuck otherwise. Ends before that when the step takes `enough` or less.
  void run_with_shakes(int64_t operations, int64_t enough);

 private:
  size_t below(size_t bound) { return static_cast<size_t>(rng_.below(bound)); }
  size_t slowest() const { return ranking_.highest(); }
  void rank(size_t replica) { ranking_.set(replica, replicas_[replica].makespan); }
  /// Draws one change of replica `r`, which is the slowest, and keeps it where it is no worse.
  void propose(size_t r);
  /// What a change may make a replica slower by: an eighth in a shake. A half and a 32nd do as well; with none,
  /// steps of 4 to 20 samples are 0.10 % longer.
  int64_t leeway(const ReplicaDraft& draft) const { return may_worsen_ ? draft.makespan / 8 : 0; }
  void change_alone(ReplicaDraft& draft);
  void change_packs(ReplicaDraft& draft);
  void change_packs_of(ReplicaDraft& draft, ReplicaDraft& other);
  std::vector<int32_t> take_samples(ReplicaDraft& draft);
  bool give_samples(ReplicaDraft& draft, const std::vector<int32_t>& samples);
  void exchange_with(ReplicaDraft& draft, ReplicaDraft& other);
  std::vector<int32_t> pick(const PackDraft& pack);
  bool exchange_samples(PackDraft& a, PackDraft& b);
  bool shift_end(PackDraft& pack);
  bool move_slice(PackDraft& from, PackDraft& to);

  const PackProblem& problem_;
  Pricer& pricer_;
  std::vector<ReplicaDraft>& replicas_;
  Ranking ranking_;  ///< by makespan
  Rng rng_{0, 5};  ///< any will do: a step gets up to 0.7 % longer or shorter by another one, 0.03 % in the mean of 24
  bool may_worsen_ = false;
};

}  // namespace fpdist::plan
