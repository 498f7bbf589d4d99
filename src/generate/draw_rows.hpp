#pragma once
// generate, private: tokens of many rows of logits at once, on the device that they are on: a GPU's logits stay there.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "src/generate/sampling.hpp"

namespace fpdist::generate {

/// Who draws from which row of logits; histories as draw_token's.
struct RowDraw {
  int64_t row = 0;
  std::span<const int32_t> history;
  double u = 0;
};

/// What draw_token finds for each, with sums that may round otherwise; `logits` [R,V], float32. The same bits for the
/// same call. The device is waited for; beside the logits some 128 MiB a temporary lie there, however many rows there
/// are. Throws Error for logits that are not finite.
std::vector<Drawn> draw_rows(const at::Tensor& logits, std::span<const RowDraw> draws, const SamplingOptions& options);

}  // namespace fpdist::generate
