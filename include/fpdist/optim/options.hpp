#pragma once
#include <cstdint>
#include <map>
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
  /// linear | cosine | constant | constant_with_warmup | cosine_with_restarts | cosine_with_min_lr | polynomial |
  /// inverse_sqrt | warmup_stable_decay.
  std::string lr_scheduler_type = "linear";
  /// What lr_scheduler_type's own arguments are, by Transformers' names: min_lr, min_lr_rate, num_cycles, power,
  /// lr_end, timescale, num_decay_steps, num_stable_steps, min_lr_ratio, warmup_type, decay_type.
  std::map<std::string, std::string> lr_scheduler_kwargs = {};
  int64_t warmup_steps = 0;
  /// Part of the run's steps that warm up, where warmup_steps is 0.
  double warmup_ratio = 0.0;
  /// A pattern of weight names -> peak learning rate of those, instead of learning_rate: `*` stands for any characters,
  /// `?` for any one; of several that fit a name the longest counts.
  std::map<std::string, std::string> learning_rates = {};

  static std::span<const Key> keys();
};

}  // namespace fpdist::optim
