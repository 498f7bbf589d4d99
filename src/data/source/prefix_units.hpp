#pragma once
// data: groups that begin alike, so that a step can hold them together.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/data/loader.hpp"
#include "fpdist/data/reader.hpp"

namespace fpdist::data {

/// Every group once. Groups whose first samples have `min_shared` tokens or more in common are a cluster. One of up to
/// `max_groups` is a unit; a larger one is cut where its members have least in common, until its parts are. Found in
/// one sort of all first samples: the same units for the same data.
std::vector<LoadUnit> prefix_units(const Dataset& dataset, int64_t min_shared, int64_t max_groups);

/// Groups with equal numbers in `unit` together, in the order of their first.
std::vector<LoadUnit> equal_units(std::span<const int64_t> unit);

/// Tokens of all samples of `groups` over the tokens that a trie of them holds: what a step of them can share at most.
double sharing_of(std::span<const Group> groups);

}  // namespace fpdist::data
