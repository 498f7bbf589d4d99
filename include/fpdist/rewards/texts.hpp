#pragma once
// rewards: the texts of completions.

#include <span>

#include "fpdist/data/tokenizer.hpp"
#include "fpdist/rewards/rewards.hpp"

namespace fpdist::rewards {

/// Fills in the texts of all tokens but the stop token; of a tokenizer that refuses text none.
void decode_texts(std::span<JudgedText> texts, data::Tokenizer& tokenizer);

}  // namespace fpdist::rewards
