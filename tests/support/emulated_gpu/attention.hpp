#pragma once
#include <torch/library.h>

namespace fpdist::emulated {

/// torch's fused attention operators, computed on the host.
void register_attention(torch::Library& aten_cuda);

}  // namespace fpdist::emulated
