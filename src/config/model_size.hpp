#pragma once
// config: sizes of a job's model that plans and memory estimates are made of. No torch.

#include <cstdint>

#include "fpdist/config/settled.hpp"
#include "src/plan/context/context_plan.hpp"
#include "src/plan/figures/step_volume.hpp"

namespace fpdist::config {

/// Bytes of one element.
int64_t bytes_of(DType dtype);

/// Heads of one rank of a tp axis of `tp` ranks.
plan::CpHeads context_heads(const arch::Model& model, int tp);

/// Whether the loss's reference is a model of its own in memory, and not this one without its adapter.
bool copies_reference(const Settled& job);

/// What the model weighs while it trains; a reference that is dropped before the first step does not count.
plan::ModelBytes model_bytes(const Settled& job);

}  // namespace fpdist::config
