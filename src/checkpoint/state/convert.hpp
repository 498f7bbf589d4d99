#pragma once
// checkpoint: training states to Hugging Face directories and back, one tensor in memory at a time. Not collective.

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/checkpoint/state/training_state.hpp"

namespace fpdist::checkpoint {

/// The masters of `weights`, in this order, as the Hugging Face directory `directory`. Throws as export_hf_directory,
/// and ModelFileError for a weight that the state has not in this shape.
void export_masters(const TrainingState& state, std::span<const TensorSpec> weights, const std::string& directory,
                    const ExportOptions& options);

/// What becomes of a tensor on its way; the same shape and dtype.
using ChangeTensor = std::function<at::Tensor(const std::string& name, const at::Tensor& value)>;

/// All tensors of `from`, as its files have them and in their order; floats as `dtype`, where one is given, each
/// changed on the way. Throws as export_hf_directory.
void export_again(const HfDirectory& from, std::optional<at::ScalarType> dtype, const std::string& directory,
                  const ExportOptions& options, const ChangeTensor& change = {});

/// A training state, of one rank, whose masters are `weights` of `from` and whose moments are zero, in the specs'
/// dtypes. A weight that stands for another one, as a head does for a tied embedding, is read where that is missing.
/// Throws as write_state_shard and commit_state, and ModelFileError for a weight that `from` has not in this shape.
void begin_state(const HfDirectory& from, std::span<const TensorSpec> weights, const std::string& directory,
                 const StateTexts& texts);

}  // namespace fpdist::checkpoint
