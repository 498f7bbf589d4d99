#pragma once
// loss (private): what losses of pairs without a reference say of a pack.

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "src/loss/segments.hpp"

namespace fpdist::loss {

/// Throws ShapeError naming the tensor and the loss unless log-probs and mean logits are there.
void require_answers(const Edges& edges, const char* loss);

/// TRL's rewards/*, logps/* and logits/* of rewards [B] and log-probs [B]; `in_answer` [E]: 1 where an edge is of the
/// answer.
std::map<std::string, Metric> answer_metrics(const Edges& edges, const at::Tensor& reward, const at::Tensor& logp,
                                             const at::Tensor& in_answer);

}  // namespace fpdist::loss
