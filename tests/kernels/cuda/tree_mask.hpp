#pragma once
// Tests of our attention kernels: packs of trees, and what a mask says, pair by pair.

#include <cstdint>
#include <random>
#include <vector>

namespace fpdist::test {

/// Which rows are queries and keys, and where each key's subtree ends.
struct TreeMask {
  std::vector<int32_t> q_row, k_row, k_end;
  bool sees(int64_t query, int64_t key) const {
    const int32_t row = q_row[static_cast<size_t>(query)];
    return k_row[static_cast<size_t>(key)] <= row && row < k_end[static_cast<size_t>(key)];
  }
};

/// Subtree ends of rows [begin,end): trees side by side, each a node's rows and then its children's.
inline void grow_trees(std::vector<int32_t>& end_of, int32_t begin, int32_t end, std::mt19937_64& random) {
  const auto up_to = [&](int32_t most) { return static_cast<int32_t>(1 + random() % static_cast<uint64_t>(most)); };
  while (begin < end) {
    const int32_t size = up_to(end - begin), own = up_to(size);
    for (int32_t row = begin; row < begin + own; ++row) end_of[static_cast<size_t>(row)] = begin + size;
    grow_trees(end_of, begin + own, begin + size, random);
    begin += size;
  }
}

/// All rows see and are seen.
inline TreeMask random_forest(int32_t rows, uint64_t seed) {
  std::mt19937_64 random(seed);
  TreeMask mask;
  mask.k_end.resize(static_cast<size_t>(rows));
  grow_trees(mask.k_end, 0, rows, random);
  for (int32_t row = 0; row < rows; ++row) mask.q_row.push_back(row), mask.k_row.push_back(row);
  return mask;
}

/// A prompt of `prefix` rows and `answers` of `answer` rows each.
inline TreeMask prompt_and_answers(int32_t prefix, int32_t answers, int32_t answer) {
  TreeMask mask;
  const int32_t rows = prefix + answers * answer;
  for (int32_t row = 0; row < rows; ++row) {
    mask.q_row.push_back(row), mask.k_row.push_back(row);
    mask.k_end.push_back(row < prefix ? rows : row + answer - (row - prefix) % answer);
  }
  return mask;
}

/// Only those rows of a mask for which the functions say so.
template <typename IsQuery, typename IsKey>
TreeMask part_of(const TreeMask& mask, const IsQuery& is_query, const IsKey& is_key) {
  TreeMask part;
  for (const int32_t row : mask.q_row)
    if (is_query(row)) part.q_row.push_back(row);
  for (size_t j = 0; j < mask.k_row.size(); ++j)
    if (is_key(mask.k_row[j])) part.k_row.push_back(mask.k_row[j]), part.k_end.push_back(mask.k_end[j]);
  return part;
}

/// A step that decodes: a random forest whose leaves have room for `room` rows, of which some are there; the query is
/// the last of these, one a leaf, and there are `alone` more that see themselves only.
inline TreeMask decoding_forest(uint64_t seed, int32_t leaves, int32_t longest, int32_t room, int32_t alone = 0) {
  std::mt19937_64 random(seed);
  const auto up_to = [&](int32_t most) { return static_cast<int32_t>(1 + random() % static_cast<uint64_t>(most)); };
  TreeMask mask;
  std::vector<int32_t>& end = mask.k_end;
  const auto grow = [&](const auto& self, int32_t below, int depth) -> void {
    const auto begin = static_cast<int32_t>(end.size());
    const int32_t own = below == 1 ? room : up_to(longest);
    if (below == 1) mask.q_row.push_back(begin + up_to(room) - 1);
    end.resize(end.size() + static_cast<size_t>(own));
    for (int32_t left = below == 1 ? 0 : below; left > 0;) {
      const int32_t part = depth >= 4 ? 1 : up_to(left);
      self(self, part == below && depth > 0 ? 1 : part, depth + 1), left -= part == below && depth > 0 ? 1 : part;
    }
    for (int32_t row = begin; row < begin + own; ++row)
      end[static_cast<size_t>(row)] = static_cast<int32_t>(end.size());
  };
  while (static_cast<int32_t>(mask.q_row.size()) < leaves)
    grow(grow, up_to(leaves - static_cast<int32_t>(mask.q_row.size())), 0);
  for (int32_t i = 0; i < alone; ++i) {
    mask.q_row.push_back(static_cast<int32_t>(end.size()));
    end.push_back(static_cast<int32_t>(end.size()) + 1);
  }
  for (size_t row = 0; row < end.size(); ++row) mask.k_row.push_back(static_cast<int32_t>(row));
  return mask;
}

}  // namespace fpdist::test
