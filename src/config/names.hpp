#pragma once
// Names that people write instead of ours: typing errors, and other systems' keys and values. All that this project
// knows of other trainers' words stands behind this header.

#include <string>
#include <string_view>

namespace fpdist::config {

/// "unknown key 'NAME'; " and one sentence: what a key of another system is here or why it is not, the nearest of ours,
/// or where all are listed. `name` is the full name.
std::string unknown_key(std::string_view name);

/// What is meant by `value` of `key` (bf16 is bfloat16), or why it cannot be.
struct OurValue {
  std::string value, refusal;
};
OurValue our_value(std::string_view key, const std::string& value);

/// A line for every name of other systems, for --help names.
std::string other_names_text();

}  // namespace fpdist::config
