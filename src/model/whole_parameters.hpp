#pragma once
// model: the weights of a whole model, however it is spread over ranks; what an export holds.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/model/transformer.hpp"

namespace fpdist::model {

/// (name, shape) of every weight in Hugging Face order: embedding, blocks, norm, head (absent when tied). Allocates
/// nothing.
std::vector<std::pair<std::string, std::vector<int64_t>>> whole_parameters(const arch::Model& config, Head head);

}  // namespace fpdist::model
