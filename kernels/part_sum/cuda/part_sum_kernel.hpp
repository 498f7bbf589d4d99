#pragma once
// part_sum on the GPU: every part is read once and the sum written once. Part of libfpdist_cuda.

#include <driver_types.h>

#include <cstdint>

#include "kernels/cuda/element.hpp"

namespace fpdist::kernels {

constexpr int kMostParts = 16;

/// `parts` addresses of `count` elements each; out may be one of them.
struct PartSumArguments {
  const void* part[kMostParts];
  void* out;
  int parts;
  int64_t count;
};

/// Queues the kernel on `stream`; cudaErrorInvalidValue for no parts or more than kMostParts.
cudaError_t launch_part_sum(const PartSumArguments& arguments, Element element, cudaStream_t stream);

}  // namespace fpdist::kernels
