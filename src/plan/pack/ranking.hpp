#pragma once
// plan: many numbers that change, and which of them is highest, lowest, or the highest or first within a limit: a
// tournament, so that a step of thousands of replicas or packs asks as quickly as one of eight.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fpdist::plan {

/// Entries 0 to `entries` - 1, each with a value and rows; all are 0 at first. Of equal values the lower entry is
/// first.
class Ranking {
 public:
  static constexpr size_t kNone = static_cast<size_t>(-1);

  explicit Ranking(size_t entries);
  void set(size_t entry, int64_t value, int64_t rows = 0);
  /// There must be an entry.
  size_t highest() const;
  size_t lowest() const;
  /// Of the entries with at most `most_rows` the one with the highest value, or the first; kNone: there is none.
  size_t highest_within(int64_t most_rows) const;
  size_t first_within(int64_t most_rows) const;

 private:
  struct Match {
    int64_t highest, lowest, fewest_rows;
  };
  struct Winner {
    size_t entry = kNone;
    int64_t value = 0;
  };
  void play(size_t node);
  void search(size_t node, size_t first, size_t width, int64_t most_rows, Winner& best) const;

  size_t leaves_ = 1;
  std::vector<Match> node_;  ///< node n has children 2n and 2n + 1, the root is 1, leaves come last
};

}  // namespace fpdist::plan
