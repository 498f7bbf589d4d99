#include "kernels/tree_attention/mask/pieces.hpp"

#include <algorithm>

#include "fpdist/core/error.hpp"

namespace fpdist::kernels {
namespace {

int64_t first_at_least(std::span<const int32_t> row, int32_t bound) {
  return std::lower_bound(row.begin(), row.end(), bound) - row.begin();
}

/// Queries [q, q_end) whose rows lie inside the key run that starts at position k with row c.
void add_inside(std::span<const int32_t> q_row, int64_t q, int64_t q_end, int64_t k, int32_t c,
                std::vector<Piece>& pieces) {
  while (q < q_end) {
    int64_t next = q + 1;
    while (next < q_end && q_row[next] == q_row[next - 1] + 1) ++next;
    const int64_t diagonal = k + (q_row[q] - c);
    if (next == q + 1) {  // one query: its own key is just one more that it sees
      pieces.push_back({q, next, k, diagonal + 1, false});
    } else {
      if (diagonal > k) pieces.push_back({q, next, k, diagonal, false});
      pieces.push_back({q, next, diagonal, diagonal + (next - q), true});
    }
    q = next;
  }
}

void check_ascending(const char* name, std::span<const int32_t> row) {
  for (size_t i = 1; i < row.size(); ++i)
    check(row[i - 1] < row[i], "tree_attention: ", name, "[", i, "] = ", row[i], " follows ", row[i - 1],
          ": rows must ascend; sort the rows together with their tensors");
}

void check_keys(std::span<const int32_t> k_row, std::span<const int32_t> row_end) {
  check_ascending("k_row", k_row);
  for (size_t i = 0; i < k_row.size(); ++i)
    check(row_end[i] > k_row[i], "tree_attention: k_end ", row_end[i], " is not above its row ", k_row[i],
          ": pass subtree ends, exclusive");
}

}  // namespace

void check_rows(std::span<const int32_t> q_row, std::span<const int32_t> k_row, std::span<const int32_t> row_end) {
  check_ascending("q_row", q_row);
  check_keys(k_row, row_end);
}

std::vector<KeyRun> find_runs(std::span<const int32_t> k_row, std::span<const int32_t> row_end) {
  check_keys(k_row, row_end);
  std::vector<KeyRun> runs;
  const auto keys = static_cast<int64_t>(k_row.size());
  for (int64_t begin = 0, end = 0; begin < keys; begin = end) {
    end = begin + 1;
    while (end < keys && k_row[end] == k_row[end - 1] + 1 && row_end[end] == row_end[begin]) ++end;
    runs.push_back({begin, end, k_row[begin], row_end[begin]});
  }
  return runs;
}

std::vector<Piece> find_pieces(std::span<const int32_t> q_row, std::span<const int32_t> k_row,
                               std::span<const int32_t> row_end) {
  return find_pieces(q_row, find_runs(k_row, row_end));
}

std::vector<Piece> find_pieces(std::span<const int32_t> q_row, std::span<const KeyRun> runs) {
  check_ascending("q_row", q_row);
  std::vector<Piece> pieces;
  for (const KeyRun& run : runs) {
    const auto rows = static_cast<int32_t>(run.k_end - run.k_begin);
    const int64_t inside = first_at_least(q_row, run.row), below = first_at_least(q_row, run.row + rows),
                  after = first_at_least(q_row, run.row_end);
    add_inside(q_row, inside, below, run.k_begin, run.row, pieces);
    if (below < after) pieces.push_back({below, after, run.k_begin, run.k_end, false});
  }
  return pieces;
}

}  // namespace fpdist::kernels
