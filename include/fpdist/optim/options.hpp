#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace fpdist {
struct Key;
}
namespace fpdist::optim {

/// Transformers' names and meanings.
struct OptimOptions {
  double learning_rate = 1e-6;
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  /// Applied to matrices only, not to biases and norm weights.
  double weight_decay = 0.0;
  /// Clip the global gradient norm; 0 is off.
  double max_grad_norm = 1.0;
  /// linear | cosine | constant | constant_with_warmup.
  std::string lr_scheduler_type = "linear";
  int64_t warmup_steps = 0;

  static std::span<const Key> keys();
};

}  // namespace fpdist::optim
