#pragma once
// rewards: the texts of completions.

#include <span>
#include <string>

#include "fpdist/data/tokenizer.hpp"
#include "fpdist/rewards/rewards.hpp"

namespace fpdist::rewards {

/// Fills in the texts of all tokens but the stop token, up to where the first of `stop` begins; of a tokenizer that
/// refuses text none.
void decode_texts(std::span<JudgedText> texts, data::Tokenizer& tokenizer, std::span<const std::string> stop = {});

}  // namespace fpdist::rewards
