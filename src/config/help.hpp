#pragma once
// config: what --help TOPIC may be asked for.

#include <string_view>

namespace fpdist::config {

/// A section, a key with its section, or "names".
bool is_help_topic(std::string_view topic);

}  // namespace fpdist::config
