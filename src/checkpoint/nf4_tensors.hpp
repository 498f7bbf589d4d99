#pragma once
// checkpoint: weights that bitsandbytes has quantized, as transformers writes them into a directory's safetensors:
// codes by the weight's name, scales and state in tensors whose names go on from it.

#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/ops/quantized_weight.hpp"

namespace fpdist::checkpoint {

/// Names of the tensors that belong to a quantized weight beside its codes.
std::vector<std::string> nf4_parts(const std::string& weight);

/// Whether the directory holds the weight in 4 bits.
bool holds_quantized(const HfDirectory& directory, const std::string& weight);

/// The whole weight, a matrix of `shape`. Throws ModelFileError, naming the tensor, where it is in another format than
/// nf4 or its parts do not fit together.
ops::Nf4 read_nf4(const HfDirectory& directory, const std::string& weight, const std::vector<int64_t>& shape);

}  // namespace fpdist::checkpoint
