#pragma once
// trainer (private): the weights of all ranks, whole, on rank 0: as a Hugging Face directory or in memory.

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "src/trainer/job.hpp"
#include "src/trainer/weights/weights.hpp"

namespace fpdist::trainer {

/// Which tensors of the weights: their values, or the last step's summed gradients.
enum class WholeOf { kValues, kGradients };

/// Collective. By Hugging Face name, on rank 0; nothing on the others. Holds all of them in memory.
std::map<std::string, at::Tensor> gather_whole(const Job& job, Weights& weights, WholeOf what);

/// Collective. One tensor in memory at a time; returns when it is written. Throws DiskError.
void save_directory(const Job& job, Weights& weights, const std::string& directory);

}  // namespace fpdist::trainer
