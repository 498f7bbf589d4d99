#pragma once
// data: rows that belong together, by what they say (data.group_by).

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/data/options.hpp"
#include "fpdist/data/reader.hpp"
#include "src/core/checksum.hpp"

namespace fpdist::data {

/// Finds them while rows are read, and keeps numbers alone: nothing of a row stays here.
class RowUnits {
 public:
  explicit RowUnits(GroupBy by) : by_(by) {}
  /// The next row's group, and what the row is called by where that is by uid.
  void add(const Group& row, const std::string& uid);
  /// [rows] the first row that each one belongs with; empty for GroupBy::kRow.
  std::vector<int64_t> take() && { return std::move(first_); }

 private:
  struct LowBits {
    size_t operator()(const Digest& digest) const { return static_cast<size_t>(digest.low); }
  };
  GroupBy by_;
  std::unordered_map<Digest, int64_t, LowBits> found_;
  std::vector<int64_t> first_;
};

using GroupSink = std::function<void(Group&&)>;

/// Joins the samples of rows with the same `first` (see RowUnits) into the first of them; ids and `facts.place` count
/// groups from then on. `row` is asked once for each number, all of a group together, and `put` gets the groups in the
/// order of their first rows. `log` hears of rewards that are all equal. Throws DataError where rewards and advantages
/// would come into one group.
void join_rows(const std::vector<int64_t>& first, const std::function<Group(int64_t)>& row, const GroupSink& put,
               Dataset& facts, LogSink& log);

/// Tokens ahead of a sample's first target: its prompt, however its row said so.
size_t prompt_tokens(const Sample& sample);

}  // namespace fpdist::data
