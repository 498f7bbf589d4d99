#pragma once
#include <cstdint>

namespace fpdist::plan {

struct PackOptions {
  /// Most rows in one pack (one micro-batch).
  int64_t max_tokens = 8192;
  /// false lays every sample out alone: the same code on chains.
  bool share_prefix = true;
  /// Run the first n steps both ways, shared and each sample alone, and stop if loss or gradients disagree.
  int64_t verify_steps = 0;
};

}  // namespace fpdist::plan
