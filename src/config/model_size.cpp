#include "src/config/model_size.hpp"

#include <algorithm>

#include "fpdist/loss/spec.hpp"

namespace fpdist::config {

int64_t bytes_of(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

plan::CpHeads context_heads(const arch::Model& model, int tp) {
  const arch::ModelShape shape = model.shape();
  return {.query = std::max<int64_t>(1, shape.heads / tp),
          .key = std::max<int64_t>(1, shape.kv_heads / tp),
          .dim = shape.head_dim};
}

plan::ModelBytes model_bytes(const Settled& job) {
  const Config& config = job.config;
  const bool keeps_reference = !config.loss.precompute_ref_log_probs;
  return {.shape = job.model.shape(),
          .value = bytes_of(config.model.dtype),
          .sum = std::max<int64_t>(4, bytes_of(config.model.dtype)),
          .recompute = config.model.gradient_checkpointing,
          .has_reference = loss::needs_of(config.method, config.loss).reference && keeps_reference,
          .ties_embedding = job.model.tie_word_embeddings};
}

}  // namespace fpdist::config
