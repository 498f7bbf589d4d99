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

bool copies_reference(const Settled& job) {
  return loss::needs_of(job.config.method, job.config.loss).reference &&
         (!job.model.adapter.is_there() || !job.config.model.ref_path.empty());
}

plan::ModelBytes model_bytes(const Settled& job) {
  const Config& config = job.config;
  const loss::Needs needs = loss::needs_of(config.method, config.loss);
  const bool keeps_reference = !config.loss.precompute_ref_log_probs;
  return {.shape = job.model.shape(),
          .value = bytes_of(config.model.dtype),
          .trained = job.model.adapter.is_float32 ? std::max<int64_t>(4, bytes_of(config.model.dtype))
                                                  : bytes_of(config.model.dtype),
          .sum = std::max<int64_t>(4, bytes_of(config.model.dtype)),
          .recompute = config.model.gradient_checkpointing,
          .has_reference = copies_reference(job) && keeps_reference,
          .ties_embedding = job.model.tie_word_embeddings,
          .adapter = job.model.adapter.is_there() ? arch::trained_count(job.model, needs.head) : -1,
          .linear = job.model.quantization ? arch::quantized_bytes(*job.model.quantization, config.parallel.tp) : 0};
}

}  // namespace fpdist::config
