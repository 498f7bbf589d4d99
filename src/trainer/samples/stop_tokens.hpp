#pragma once
// trainer (private): the tokens that end a completion.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fpdist/data/tokenizer.hpp"

namespace fpdist::trainer {

/// The user's, and all that the files of the model's directory (empty: none) and its tokenizer call an end; ascending.
std::vector<int64_t> stop_tokens(std::span<const int64_t> own, const std::string& directory,
                                 data::Tokenizer& tokenizer);

}  // namespace fpdist::trainer
