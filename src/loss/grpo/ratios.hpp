#pragma once
// loss (private): what policy-gradient terms are made of: one entry an edge, or by sequence one a sample.

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {

struct Ratios {
  at::Tensor ratio;      ///< policy over the policy that sampled, differentiable
  at::Tensor advantage;  ///< of the same shape
  bool by_sequence = false;
};

/// What is to be maximised, one entry an edge, and what is said of it.
struct Gain {
  at::Tensor per_edge;
  std::map<std::string, Metric> metrics = {};
};

using GainFunction = Gain(const Ratios& ratios, const Edges& edges, const LossOptions& options);

}  // namespace fpdist::loss
