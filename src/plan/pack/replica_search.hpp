#pragma once
// plan: packs, their order and their slices for the samples of one replica. A candidate is a handful of numbers; the
// packs follow from them, and the simulator says what they are worth. Numbers are then changed one at a time.

#include <array>
#include <cstdint>
#include <set>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "src/plan/pack/bundle.hpp"
#include "src/plan/pack/draft.hpp"

namespace fpdist::plan {

/// A group above slack percent of the mean pack is torn; the last keeps all that fit. Which suits depends on the
/// groups, so every candidate has its own: with 105 alone steps are up to 1.9 % longer.
inline constexpr std::array<int64_t, 4> kSlack{105, 150, 300, int64_t{1} << 20};
inline constexpr int kTearsSome = 1, kTearsNone = kSlack.size() - 1;

/// units == packs: whole packs; more: slices, handed to packs by their cost.
struct Candidate {
  int units = 1, packs = 1;
  int front = 0, back = 0;  ///< how many units the first and the last ones take to grow to full size
  int slack = 0;            ///< index of kSlack: how far a group may exceed a pack before it is torn
  bool is_wide = false;     ///< window of the longest pack's slices instead of 1
  bool operator==(const Candidate&) const = default;
  auto key() const { return std::tie(units, packs, front, back, slack, is_wide); }
  bool operator<(const Candidate& other) const { return key() < other.key(); }
};

struct Descent {
  Candidate candidate;
  ReplicaDraft draft;
};

class ReplicaSearch {
 public:
  ReplicaSearch(const PackProblem& problem, Pricer& pricer, std::span<const int32_t> samples);

  /// What descents from starts of its own find, the best first. Whole packs and slices are far apart: from one the
  /// other is seldom found.
  std::vector<Descent> run(bool sliced, int tries, int64_t most_effort);
  /// Downhill from the best of the starts, one number of the candidate at a time. Ends after `tries` more candidates,
  /// or when the pricer's effort reaches `most_effort` and something was found. The makespan is kNever when none is
  /// allowed.
  Descent descend(std::span<const Candidate> starts, int tries, int64_t most_effort);
  int64_t take_rows_needed() { return pricer_.take_rows_needed(); }

 private:
  std::vector<const Bundle*> bundles(int64_t most_cost);
  int64_t fewest_packs();
  int64_t balanced_units() const;
  int most_packs() const;
  int most_units() const;
  /// Groups of starts, each good for a descent of its own.
  std::vector<std::vector<Candidate>> starts(bool sliced);
  std::vector<Candidate> neighbours(const Candidate& at) const;
  bool consider(const Candidate& candidate, Descent& best);
  /// The draft of a candidate; its makespan is kNever when it exceeds `most`.
  ReplicaDraft build(const Candidate& candidate, int64_t most);
  /// Halves packs, the costliest first, until there are as many as interleaving can have.
  void even_up(ReplicaDraft& draft, std::vector<int64_t>& cost);
  void slice(ReplicaDraft& draft, const Candidate& candidate, std::span<const int64_t> cost) const;

  const PackProblem& problem_;
  Pricer& pricer_;
  Scope scope_;
  std::vector<Splits> cluster_;
  int32_t atoms_ = 0;
  std::set<Candidate> tried_;
  int tries_left_ = 0;
  bool evens_up_ = false;  ///< no candidate came out as a multiple of the stages by itself
};

}  // namespace fpdist::plan
