// tree_attention of decoding steps: from tensors to the launcher.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>

#include "kernels/common/checks.hpp"
#include "kernels/cuda/heads.hpp"
#include "kernels/tree_attention/decode/decode_attention.hpp"
#include "kernels/tree_attention/decode/decode_attention_kernel.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kNumbersOfItem = sizeof(DecodeItem) / sizeof(int32_t);

std::tuple<at::Tensor, at::Tensor> decode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                          const at::Tensor& item, const at::Tensor& part_begin, const at::Tensor& part,
                                          int64_t slots, double scale, bool rounded) {
  check_attention_inputs({q, k, v});
  check(decode_shape_of({q, k, v}, {.scale = scale}).has_value(),
        "decode_attention: takes bfloat16 and float32, head sizes 64 and 128, at most 64 query heads (float32: 16) a "
        "head of keys and a scale above 0, not ",
        q.scalar_type(), ", ", q.size(2), ", ", q.size(1), " : ", k.size(1), " and ", scale);
  check(part_begin.numel() == q.size(0) + 1, "decode_attention: the tables are for ", part_begin.numel() - 1,
        " queries, not ", q.size(0));
  check(part_begin.device() == q.device(), "decode_attention: the tables are on ", part_begin.device(), ", q on ",
        q.device());
  const c10::cuda::CUDAGuard guard(q.device());
  const auto wide = q.options().dtype(at::kFloat);
  const auto result = rounded ? q.options() : wide;
  if (q.numel() == 0 || k.numel() == 0)
    return {at::zeros(q.sizes(), result),
            at::full({q.size(0), q.size(1)}, -std::numeric_limits<float>::infinity(), wide)};
  const at::Tensor own_q = with_vectors(q), own_k = with_vectors(k), own_v = with_vectors(v);
  at::Tensor out = at::empty(q.sizes(), result), lse = at::empty({q.size(0), q.size(1)}, wide);
  at::Tensor parts = at::empty({slots, q.size(1), q.size(2) + 1}, wide);
  const DecodeArguments arguments{.q = heads_of(own_q),
                                  .k = heads_of(own_k),
                                  .v = heads_of(own_v),
                                  .out = out.mutable_data_ptr(),
                                  .lse = lse.mutable_data_ptr<float>(),
                                  .element = element_of(own_q),
                                  .result = element_of(out),
                                  .item = reinterpret_cast<const DecodeItem*>(item.const_data_ptr<int32_t>()),
                                  .part_begin = part_begin.const_data_ptr<int32_t>(),
                                  .part = part.const_data_ptr<int32_t>(),
                                  .items = item.numel() / kNumbersOfItem,
                                  .slots = slots,
                                  .parts = parts.mutable_data_ptr<float>(),
                                  .scale = static_cast<float>(scale)};
  C10_CUDA_CHECK(launch_decode_attention(arguments, c10::cuda::getCurrentCUDAStream()));
  return {out, lse};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "decode_attention(Tensor q, Tensor k, Tensor v, Tensor item, Tensor part_begin, Tensor part, int slots,"
      " float scale, bool rounded) -> (Tensor out, Tensor lse)");
}

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) { m.impl("decode_attention", fpdist::kernels::decode); }
