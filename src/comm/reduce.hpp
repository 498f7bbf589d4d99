#pragma once
// comm, private: the local half of a reduction.

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <vector>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

/// out[i] = parts[0][i] op parts[1][i] op ... in that order, i < count; bfloat16 is summed in float32 and rounded once.
/// `out` may be one of the parts. MIN and MAX hand NaN on.
void reduce_parts(const std::vector<const char*>& parts, char* out, int64_t count, c10::ScalarType dtype, ReduceOp op);

}  // namespace fpdist::comm
