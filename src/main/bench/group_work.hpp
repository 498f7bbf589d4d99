#pragma once
// main (fpdist_bench): what samples are made of, for counts of operations.

#include <span>

#include "fpdist/data/sample.hpp"
#include "src/plan/costs/amount.hpp"

namespace fpdist::bench {

/// Rows and visible pairs of the groups in one pack: every node once, or with `share` false every sample alone; and the
/// edges of every sample.
plan::Amount work_of(std::span<const data::Group> groups, bool share);

}  // namespace fpdist::bench
