#pragma once
// config: what ends a completion.

#include <string>

#include "fpdist/data/tokenizer.hpp"
#include "fpdist/generate/options.hpp"

namespace fpdist::config {

/// To the user's stop tokens all that the files of the model's directory (empty: none) and its tokenizer call an end,
/// ascending; to stop texts the bytes of tokens. Throws ConfigError for stop texts without a tokenizer.
void complete_stops(generate::SamplingOptions& sampling, const std::string& directory, data::Tokenizer& tokenizer);

}  // namespace fpdist::config
