#pragma once
// Names that people write instead of ours: typing errors and other systems' keys.

#include <string>
#include <string_view>

namespace fpdist::config {

/// "unknown key 'NAME'" with the key that was probably meant, if there is one near enough. `name` is the full name.
std::string unknown_key(std::string_view name);

}  // namespace fpdist::config
