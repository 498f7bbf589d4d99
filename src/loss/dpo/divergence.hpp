#pragma once
// loss (private): Wang et al., "Beyond reverse KL: generalizing direct preference optimization with diverse divergence
// constraints" (2024), table 1: an answer's score is f'(u) of u = policy / reference. reverse_kl: log u; forward_kl:
// 1 - 1 / u; js_divergence: log(2 u / (1 + u)); alpha_divergence: (u^(a - 1) - 1) / (a - 1), whose limit at a = 1 is
// log u.

#include <ATen/ATen.h>

#include <cmath>
#include <string>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline at::Tensor score_of(const at::Tensor& log_ratio, const LossOptions& options) {
  const std::string& type = options.f_divergence_type;
  if (type == "forward_kl") return 1 - at::exp(-log_ratio);
  if (type == "js_divergence") return std::log(2.0) + at::log_sigmoid(log_ratio);
  constexpr double kLimit = 1e-6;       // of a around 1
  constexpr double kMostExponent = 80;  // exp of it is finite in float32, as TRL has it
  const double power = options.f_alpha_divergence_coef - 1;
  if (type != "alpha_divergence" || std::abs(power) < kLimit) return log_ratio;
  return (at::exp((power * log_ratio).clamp_max(kMostExponent)) - 1) / power;
}

}  // namespace fpdist::loss
