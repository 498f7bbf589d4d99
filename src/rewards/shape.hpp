#pragma once
// rewards (private): how a completion looks, whatever it says.

#include <cstdint>
#include <string_view>

namespace fpdist::rewards {

/// <think> at its beginning, once, and </think> behind it.
bool has_think_format(std::string_view text);

/// 0 for completions of up to longest - cache tokens, -1 from `longest` on, in between in proportion.
double overlong(int64_t tokens, int64_t longest, int64_t cache);

/// `most` times the share of the text's n-grams of words, small and capital letters alike, that stood there before; 0
/// for a text of fewer words.
double repetition(std::string_view text, int64_t ngram_size, double most);

}  // namespace fpdist::rewards
