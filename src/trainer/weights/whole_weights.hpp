#pragma once
// trainer (private): the weights of all ranks, whole, on rank 0: as a Hugging Face directory or in memory.

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>

#include "src/files/inputs.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/weights/weights.hpp"

namespace fpdist::trainer {

/// Which tensors of the weights: their values, the optimizer's masters of these, or the last step's summed gradients,
/// whose place gathered masters take.
enum class WholeOf { kValues, kMasters, kGradients };

/// What an export writes.
struct SaveAs {
  DType dtype;
  std::optional<int64_t> pad_token_id = std::nullopt;  ///< see arch::ExportConfig
};

/// train.final_dtype as a dtype; auto of an adapter is its masters', float32 or wider, as PEFT's files have it.
DType export_dtype(const Config& config);

/// Collective. By Hugging Face name, on rank 0; nothing on the others. Holds all of them in memory.
std::map<std::string, at::Tensor> gather_whole(const Job& job, Weights& weights, WholeOf what);

/// Collective. One tensor in memory at a time; returns when it is written. Masters are read where they are wider than
/// the values and `as.dtype` is, too. Throws DiskError, and ConfigError on every rank, with nothing touched, where it
/// would write over one of `inputs`.
void save_directory(const Job& job, Weights& weights, const std::string& directory, const SaveAs& as,
                    const files::Inputs& inputs);

}  // namespace fpdist::trainer
