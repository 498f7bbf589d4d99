#pragma once
// tree_attention of decoding steps by our own kernels, from sm_80 on: one launch for all chunks of keys, one that puts
// each query's parts together. A block of threads has one item of the plan (decode_plan.hpp) and one head of keys: the
// query heads that share it, of the item's queries, are the rows of its products, so keys and values are read once for
// all of them. bfloat16 by the tensor cores (mma.sync), float32 by multiplications and additions in float32; sums in
// float32 always. Plain C++, no torch.

#include <driver_types.h>

#include <cstdint>

#include "kernels/cuda/element.hpp"
#include "kernels/cuda/tensor_map.hpp"
#include "kernels/tree_attention/decode/decode_plan.hpp"

namespace fpdist::kernels {

struct DecodeArguments {
  HeadsTensor q, k, v;        ///< data and strides are whole numbers of 16 bytes
  void* out;                  ///< [Tq,Hq,D] of `result`, dense
  float* lse;                 ///< [Tq,Hq], dense
  Element element, result;    ///< of q, k and v: float32 or bfloat16; float32 or `element`
  const DecodeItem* item;     ///< a plan's for decode_rows_of_tile(element), on the device
  const int32_t* part_begin;  ///< likewise
  const int32_t* part;        ///< likewise
  int64_t items, slots;
  float* parts;  ///< [slots,Hq,D] and [slots,Hq]: scratch
  float scale;   ///< above 0
};

/// Queues the kernels on `stream`; cudaErrorInvalidValue for another head size than 64 and 128. The output of a query
/// without parts is 0, its lse -inf.
cudaError_t launch_decode_attention(const DecodeArguments& arguments, cudaStream_t stream);

}  // namespace fpdist::kernels
