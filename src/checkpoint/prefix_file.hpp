#pragma once
// checkpoint: a trained prefix as PEFT's files have it, all of its keys and values side by side in one tensor
// (arch::kPromptEmbeddings), and other trained weights (a score head) behind kPromptPrefix. The weights of an MLP that
// makes prefixes of contexts are in files as any adapter's are.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/checkpoint/hf_directory.hpp"

namespace fpdist::checkpoint {

/// What stands ahead of names beside prompt_embeddings.
inline constexpr const char* kPromptPrefix = "base_model.";

/// Whether a file has the prefix, where there is one, in that tensor.
bool is_one_tensor(const arch::Prefix& prefix);

/// Throws ModelFileError, naming what is missing or of another shape, unless the directory holds the prefix of `model`.
void check_is_prefix_of(const arch::Model& model, const HfDirectory& adapter);

/// Columns [begin, begin + destination's) of a key or value tensor of the prefix into `destination` [P, columns].
void read_prefix_into(const arch::Model& model, const HfDirectory& adapter, const std::string& parameter, int64_t begin,
                      at::Tensor& destination);

/// `specs` and `fetch` with a prefix's tensors, where there is one, joined into the file's one; of one that is
/// projected what its MLP makes.
std::pair<std::vector<TensorSpec>, FetchTensor> as_in_adapter_file(std::vector<TensorSpec> specs, FetchTensor fetch);

}  // namespace fpdist::checkpoint
