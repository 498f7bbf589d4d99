#pragma once
// data: a data set that the project makes itself, for the quickstart and for tests.

#include <cstdint>
#include <iosfwd>

namespace fpdist::data {

/// Writes `pairs` preference rows (`prompt`, `chosen`, `rejected`) about integer arithmetic: every prompt is the same
/// few-shot preamble of `shots` worked examples followed by one question; `chosen` is right, `rejected` is wrong.
/// The same (pairs, shots, seed) give the same bytes everywhere.
void generate_arithmetic_pairs(std::ostream& out, int64_t pairs, int shots, uint64_t seed);

}  // namespace fpdist::data
