#pragma once
// prefix: a number for each row that says which tokens its path has: what is drawn for a row by its key is drawn alike
// for every copy of the same prefix, in whatever pack, tree or slice it stands.

#include <cstdint>
#include <vector>

#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::prefix {

/// [T] a hash of the tokens from the root to the row, itself included.
std::vector<int64_t> row_keys(const TreeLayout& layout);

}  // namespace fpdist::prefix
