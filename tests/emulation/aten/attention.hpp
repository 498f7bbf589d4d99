#pragma once
// The emulated GPU's operators that have no CPU kernel, and what they need of the others.

#include <torch/library.h>

namespace fpdist::emulated {

/// The memory of a CUDA tensor as a CPU tensor, once the current stream has written it. No wait of the program's.
at::Tensor on_host(const at::Tensor& tensor);
/// A copy on the GPU.
at::Tensor on_device(const at::Tensor& host, const at::Tensor& like);

/// torch's fused attention operators, computed on the host.
void register_attention(torch::Library& aten_cuda);

}  // namespace fpdist::emulated
