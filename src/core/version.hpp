#pragma once
// core: which release this is.

#include <string_view>

namespace fpdist {

/// "fpdist 0.2.0".
std::string_view version();

/// The commit that the build was configured from, "9fceb02" or "9fceb02-dirty"; "unknown" where there was no git.
std::string_view commit();

}  // namespace fpdist
