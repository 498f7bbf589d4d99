#include "kernels/cuda/tensor_map.hpp"

#include <cuda_runtime_api.h>

#include "kernels/cuda/element.hpp"

namespace fpdist::kernels {
namespace {

constexpr uint32_t kPanel = 64;      // columns: 128 bytes, the widest that the swizzle takes
constexpr unsigned kDriver = 12000;  // the function came with this version of CUDA
using Encode = decltype(&cuTensorMapEncodeTiled);

/// Asked of the driver at run time: nothing here is linked to it.
Encode find_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kDriver, cudaEnableDefault, &result) !=
          cudaSuccess ||
      result != cudaDriverEntryPointSuccess)
    return nullptr;
  return reinterpret_cast<Encode>(function);
}

}  // namespace

bool fits_tensor_map(const HeadsTensor& tensor) {
  // The driver wants every stride to be a multiple of the one before, and to hold what it steps over.
  if (tensor.head_stride < tensor.size || tensor.row_stride < tensor.heads * tensor.head_stride ||
      tensor.row_stride % tensor.head_stride != 0)
    return false;
  return fits_vectors(tensor.data, tensor.row_stride, Element::kBFloat16) &&
         fits_vectors(tensor.data, tensor.head_stride, Element::kBFloat16) && tensor.size % kPanel == 0;
}

cudaError_t make_tensor_map(const HeadsTensor& tensor, int box_rows, CUtensorMap& map) {
  static const Encode encode = find_encoder();
  if (encode == nullptr) return cudaErrorNotSupported;
  constexpr auto kBytes = static_cast<uint64_t>(bytes_of(Element::kBFloat16));
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(tensor.size), static_cast<cuuint64_t>(tensor.heads),
                              static_cast<cuuint64_t>(tensor.rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(tensor.head_stride) * kBytes,
                                static_cast<cuuint64_t>(tensor.row_stride) * kBytes};
  const cuuint32_t box[] = {kPanel, 1, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t every[] = {1, 1, 1};
  const CUresult answer = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(tensor.data), sizes,
                                 strides, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return answer == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace fpdist::kernels
