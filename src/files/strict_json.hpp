#pragma once
// JSON from files that may be hostile.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fpdist::files {

/// Parses `text`; throws ModelFileError, starting with `where`, for bad JSON or UTF-8, a key given twice in one object,
/// or nesting deeper than `max_depth`.
nlohmann::json parse_strict(std::string_view text, const std::string& where, int max_depth);

}  // namespace fpdist::files
