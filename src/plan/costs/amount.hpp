#pragma once
// plan: what a run of rows costs is made of.

#include <cstdint>

namespace fpdist::plan {

/// Rows; visible pairs (keys that the rows see, themselves and all ancestors, wherever those lie); loss edges that
/// leave the rows, those of several samples with one row and one target (one score, one use of the head) once.
struct Amount {
  int64_t rows = 0, pairs = 0, edges = 0;
  Amount& operator+=(const Amount& other) {
    return rows += other.rows, pairs += other.pairs, edges += other.edges, *this;
  }
  Amount& operator-=(const Amount& other) {
    return rows -= other.rows, pairs -= other.pairs, edges -= other.edges, *this;
  }
  bool operator==(const Amount&) const = default;
};

}  // namespace fpdist::plan
