#pragma once
// core: which release this is.

#include <string_view>

namespace fpdist {

/// "fpdist 0.2.0".
std::string_view version();

}  // namespace fpdist
