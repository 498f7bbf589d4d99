#include "src/plan/pack/ranking.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace fpdist::plan {

Ranking::Ranking(size_t entries) {
  while (leaves_ < entries) leaves_ *= 2;
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  node_.assign(2 * leaves_, {-kMost, kMost, kMost});  // leaves behind the last entry win nothing
  for (size_t entry = 0; entry < entries; ++entry) node_[leaves_ + entry] = {0, 0, 0};
  for (size_t node = leaves_; node-- > 1;) play(node);
}

void Ranking::play(size_t node) {
  const Match &a = node_[2 * node], &b = node_[2 * node + 1];
  node_[node] = {std::max(a.highest, b.highest), std::min(a.lowest, b.lowest), std::min(a.fewest_rows, b.fewest_rows)};
}

void Ranking::set(size_t entry, int64_t value, int64_t rows) {
  size_t node = leaves_ + entry;
  node_[node] = {value, value, rows};
  for (node /= 2; node > 0; node /= 2) play(node);
}

size_t Ranking::highest() const {
  size_t node = 1;
  while (node < leaves_) node = 2 * node + (node_[2 * node].highest == node_[node].highest ? 0 : 1);
  return node - leaves_;
}

size_t Ranking::lowest() const {
  size_t node = 1;
  while (node < leaves_) node = 2 * node + (node_[2 * node].lowest == node_[node].lowest ? 0 : 1);
  return node - leaves_;
}

size_t Ranking::first_within(int64_t most_rows) const {
  if (node_[1].fewest_rows > most_rows) return kNone;
  size_t node = 1;
  while (node < leaves_) node = 2 * node + (node_[2 * node].fewest_rows <= most_rows ? 0 : 1);
  return node - leaves_;
}

size_t Ranking::highest_within(int64_t most_rows) const {
  Winner best;
  search(1, 0, leaves_, most_rows, best);
  return best.entry;
}

/// The half that promises more first; what cannot win any more is not entered.
void Ranking::search(size_t node, size_t first, size_t width, int64_t most_rows, Winner& best) const {
  const Match& here = node_[node];
  if (here.fewest_rows > most_rows) return;
  if (best.entry != kNone && (here.highest < best.value || (here.highest == best.value && first > best.entry))) return;
  if (width == 1) {
    best = {first, here.highest};
    return;
  }
  const size_t half = width / 2;
  const bool second_first = node_[2 * node + 1].highest > node_[2 * node].highest;
  if (second_first) search(2 * node + 1, first + half, half, most_rows, best);
  search(2 * node, first, half, most_rows, best);
  if (!second_first) search(2 * node + 1, first + half, half, most_rows, best);
}

}  // namespace fpdist::plan
