#pragma once
// arch: the tokens that a Hugging Face directory says a text ends in. No torch.

#include <cstdint>
#include <set>
#include <string>

namespace fpdist::arch {

/// eos_token_id, a number or a list, of config.json and of generation_config.json; a file that is not there names none.
std::set<int64_t> end_tokens(const std::string& directory);

}  // namespace fpdist::arch
