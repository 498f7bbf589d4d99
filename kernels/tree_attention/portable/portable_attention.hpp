#pragma once
// tree_attention on any GPU from sm_80 on, by the tensor cores that all of them have: one launch for the forward and
// three for the backward, as tree_attention_kernel.hpp says, for head sizes 64, 96, 128 and 256, bfloat16 and float16.
// Above 128 the weights are computed once for dK and once for dV: 8 products for 5. by_query of either direction is
// kQueryBlock by kKeysOfBackwardTile; data and strides are whole numbers of 16 bytes.

#include "kernels/tree_attention/cuda/tree_attention_kernel.hpp"

namespace fpdist::kernels {

cudaError_t launch_portable_attention(const TreeAttentionArguments& arguments, cudaStream_t stream);
cudaError_t launch_portable_attention_backward(const TreeAttentionBackwardArguments& arguments, cudaStream_t stream);

}  // namespace fpdist::kernels
