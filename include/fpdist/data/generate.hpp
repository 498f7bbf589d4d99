#pragma once
// data: a data set that the project makes itself, for the quickstart and for tests.

#include <cstdint>
#include <iosfwd>

namespace fpdist::data {

/// Writes `pairs` preference rows (`prompt`, `chosen`, `rejected`) about integer arithmetic: every prompt is the same
/// few-shot preamble of `shots` worked examples followed by one question; `chosen` is right, `rejected` is wrong.
/// Every sum needs a carry: `chosen` works column by column and carries, `rejected` forgets the carry and writes the
/// column sums side by side, so the method can be told apart as well as the number. Five shots make some 350 bytes.
/// Throws ConfigError for negative counts, DiskError when the stream fails.
/// The same (pairs, shots, seed) give the same bytes everywhere.
void generate_arithmetic_pairs(std::ostream& out, int64_t pairs, int shots, uint64_t seed);

}  // namespace fpdist::data
