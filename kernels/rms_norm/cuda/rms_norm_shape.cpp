#include <algorithm>

#include "kernels/rms_norm/cuda/rms_norm_kernel.hpp"
#include "kernels/rms_norm/cuda/rms_norm_limits.hpp"

namespace fpdist::kernels {

RmsNormShape shape_of_rms_norm(int64_t rows, int64_t width, Element element, bool is_aligned) {
  RmsNormShape shape;
  shape.element = element;
  shape.is_vectorised = is_aligned && width % elements_in_vector(element) == 0;
  const int64_t accesses = shape.is_vectorised ? width / elements_in_vector(element) : width;
  const int64_t needed = (accesses + kAccessesOfLane - 1) / kAccessesOfLane;
  if (needed > kMostThreads) return shape;
  shape.lanes = kFewestLanes;
  while (shape.lanes < 32 && shape.lanes < needed) shape.lanes *= 2;
  if (needed > 32) shape.lanes = static_cast<int>((needed + 31) / 32 * 32);
  shape.rows_in_block = shape.lanes > 32 ? 1 : kThreads / shape.lanes;  // warps that share a row share nothing else
  shape.accesses = accesses <= kFewAccesses * shape.lanes ? kFewAccesses : kAccessesOfLane;
  const bool has_large_lanes = shape.accesses == kAccessesOfLane && shape.lanes <= kThreads;
  const int64_t groups = (rows + shape.rows_in_block - 1) / shape.rows_in_block;
  shape.blocks = std::min<int64_t>(groups, has_large_lanes ? kFewPartials : kMostPartials);
  return shape;
}

}  // namespace fpdist::kernels
