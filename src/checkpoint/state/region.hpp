#pragma once
// checkpoint (private): which elements of a whole tensor a Region is, and what two regions have in common.
//
// A slice of a dim is runs of elements, evenly apart in the whole tensor, and so is every range of the flattened slice:
// two regions, however they were cut, are held against each other run by run, in the order of the whole tensor, and
// what lies between is stepped over.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "src/checkpoint/state/training_state.hpp"

namespace fpdist::checkpoint {

/// Why a region is none: "" where it is. Nothing of one that is can overflow.
std::string fault_of(const Region& region);

/// Of the whole tensor; the region is one.
int64_t whole_elements(const Region& region);

/// Copies the elements that both have from where `from` lies to where `to` does, `element` bytes each. Returns their
/// number. Both are regions of one tensor.
int64_t copy_common(const Region& from, const char* source, const Region& to, char* destination, size_t element);

/// Why these are not all elements of a tensor of their shape, each once: "" where they are. They are cut as a mesh
/// cuts: all along one dim, two slices of which are the same or apart.
std::string fault_of_cut(std::vector<const Region*> regions);

}  // namespace fpdist::checkpoint
