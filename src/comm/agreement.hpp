#pragma once
// comm: what all ranks must hold alike, compared: what differs, and on which ranks.

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

/// One thing that a rank holds. Names stand once in a list; neither name nor value holds a NUL.
struct Fact {
  std::string name, value;
};

/// A fact that the ranks do not hold alike.
struct Difference {
  std::string name;
  /// Each value and the ranks that hold it, in order of their first ranks; "nothing" where a rank lacks the fact.
  std::vector<std::pair<std::string, std::vector<int>>> held;
};

/// Collective, and on every rank the same: what differs among the ranks' facts, in the order of the first rank that has
/// it; empty where nothing does, which costs one exchange of 16 bytes.
std::vector<Difference> find_differences(std::span<const Fact> own, Communicator& axis);

/// "train.seed: 0 on ranks 0-2 and 5, 1 on rank 3", a line each; of many the first few and how many more there are, of
/// long values the beginnings.
std::string to_text(std::span<const Difference> differences);

/// "rank 3", "ranks 0-2 and 5"; ascending.
std::string ranks_text(std::span<const int> ranks);

}  // namespace fpdist::comm
