#pragma once
// trainer (private): what the numbers of a run are, in words, for those who only see their names. Needs no torch.

#include <string_view>

namespace fpdist::trainer {

/// "gradient norm before clipping"; of an evaluation's number what the training's is. Empty where nothing is known.
std::string_view meaning_of(std::string_view metric);

}  // namespace fpdist::trainer
