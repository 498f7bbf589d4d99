#include "kernels/tree_attention/mask/levels.hpp"

#include <algorithm>

#include "fpdist/core/error.hpp"

namespace fpdist::kernels {
namespace {

/// Keys of one subtree end and the queries below it, in the order of their rows, cut where they begin and stop to be
/// the same rows: an item holds keys only, queries only, or (both) rows that are in either. Its queries see all keys of
/// the items before it, and of its own those up to themselves.
struct Item {
  int64_t q_begin, q_end, k_begin, k_end;
};

class Levels {
 public:
  Levels(std::span<const int32_t> q_row, std::span<const int32_t> k_row) : q_row_(q_row), k_row_(k_row) {}

  /// Keys [begin, end), all of subtree end `row_end`.
  void add_keys(int64_t begin, int64_t end, int32_t row_end) {
    const auto first_query = [&](int32_t row) {
      return std::lower_bound(q_row_.begin(), q_row_.end(), row) - q_row_.begin();
    };
    std::vector<Item> items;
    const int64_t q_stop = first_query(row_end);
    for (int64_t k = begin, q = first_query(key(begin)); k < end || q < q_stop;) {
      Item item{q, q, k, k};
      if (k < end && q < q_stop && key(k) == query(q)) {
        while (k < end && q < q_stop && key(k) == query(q)) ++k, ++q;
      } else if (k < end && (q == q_stop || key(k) < query(q))) {
        while (k < end && (q == q_stop || key(k) < query(q))) ++k;
      } else {
        while (q < q_stop && (k == end || query(q) < key(k))) ++q;
      }
      item.q_end = q, item.k_end = k;
      items.push_back(item);
    }
    split(items);
  }

  std::vector<Level> take() {
    std::stable_partition(levels_.begin(), levels_.end(), [](const Level& level) { return level.is_causal; });
    return std::move(levels_);
  }

 private:
  int32_t key(int64_t at) const { return k_row_[static_cast<size_t>(at)]; }
  int32_t query(int64_t at) const { return q_row_[static_cast<size_t>(at)]; }

  /// The second half's queries see the first half's keys; then each half by itself. Rectangles of one depth share no
  /// row, so n interleaved runs take log2(n) calls, where run by run they would take n.
  void split(std::span<const Item> items) {
    if (items.empty()) return;
    if (items.size() == 1) {
      const Item& item = items.front();
      if (item.q_begin < item.q_end && item.k_begin < item.k_end)
        place({item.q_begin, item.q_end, item.k_begin, item.k_end, true});
      return;
    }
    const auto before = items.first(items.size() / 2), after = items.subspan(items.size() / 2);
    const Piece full{after.front().q_begin, after.back().q_end, before.front().k_begin, before.back().k_end, false};
    if (full.q_begin < full.q_end && full.k_begin < full.k_end) place(full);
    split(before);
    split(after);
  }

  static bool takes(const Level& level, const Piece& piece) {
    return level.is_causal == piece.is_causal && level.piece.back().q_end <= piece.q_begin &&
           level.piece.back().k_end <= piece.k_begin;
  }

  /// Keys come in DFS order: the first level that takes a whole node's piece is that of the node's depth (less for
  /// every ancestor without keys here).
  void place(const Piece& piece) {
    for (Level& level : levels_)
      if (takes(level, piece)) return level.piece.push_back(piece);
    levels_.push_back({piece.is_causal, {piece}});
  }

  std::span<const int32_t> q_row_, k_row_;
  std::vector<Level> levels_;
};

}  // namespace

std::vector<Level> find_levels(std::span<const int32_t> q_row, std::span<const int32_t> k_row,
                               std::span<const int32_t> row_end) {
  check_rows(q_row, k_row, row_end);
  Levels levels(q_row, k_row);
  // Keys side by side with one end may have gaps between their rows, or be a parent and its last child: what a query
  // below the end sees of them is only a question of rows.
  for (size_t begin = 0, end = 0; begin < k_row.size(); begin = end) {
    end = begin + 1;
    while (end < k_row.size() && row_end[end] == row_end[begin]) ++end;
    levels.add_keys(static_cast<int64_t>(begin), static_cast<int64_t>(end), row_end[begin]);
  }
  return levels.take();
}

}  // namespace fpdist::kernels
