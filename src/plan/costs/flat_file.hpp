#pragma once
// plan: the text of cost and cluster files, a flat YAML mapping.

#include <functional>
#include <string>
#include <string_view>

namespace fpdist::plan {

/// Calls set(key, value, place) for each `key: value`, one a line; '#' begins a comment, `place` is "name:line: ".
/// Throws ConfigError for a line without a colon and for a key that is given twice.
void parse_flat(const std::string& text, const std::string& name,
                const std::function<void(std::string_view, std::string_view, const std::string&)>& set);

/// The file's text. Throws ConfigError with `what` and the cure.
std::string read_flat(const std::string& path, std::string_view what, std::string_view cure);

}  // namespace fpdist::plan
