#pragma once
// core: how far one word is from another, for "did you mean".

#include <cstddef>
#include <string_view>

namespace fpdist {

/// Levenshtein distance in bytes: how many must be put in, left out or changed.
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace fpdist
