#include "tests/emulation/cuda/tensor_maps.hpp"

#include <cuda.h>

#include <cstring>

#include "tests/emulation/ptx/tensor_map.hpp"

namespace fpdist::emulated {
namespace {

static_assert(sizeof(ptx::TensorMap) <= sizeof(CUtensorMap));

uint32_t bytes_of(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      return 4;
    default:
      return 0;
  }
}

CUresult encode(CUtensorMap* result, CUtensorMapDataType type, cuuint32_t rank, void* base, const cuuint64_t* size,
                const cuuint64_t* stride, const cuuint32_t* box, const cuuint32_t* every,
                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                CUtensorMapFloatOOBfill fill) {
  ptx::TensorMap map;
  map.base = reinterpret_cast<uint64_t>(base), map.rank = rank, map.element_bytes = bytes_of(type);
  if (rank < 1 || rank > 5 || map.element_bytes == 0 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
      fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE || reinterpret_cast<uintptr_t>(result) % 64 != 0)
    return CUDA_ERROR_INVALID_VALUE;
  for (cuuint32_t i = 0; i < rank; ++i) {
    if (every[i] != 1 || size[i] == 0 || size[i] > uint64_t{1} << 32 || box[i] > 256) return CUDA_ERROR_INVALID_VALUE;
    map.size[i] = size[i], map.box[i] = static_cast<uint16_t>(box[i]);
    if (i + 1 < rank) map.stride[i] = stride[i];
  }
  map.swizzle = swizzle == CU_TENSOR_MAP_SWIZZLE_128B  ? ptx::Swizzle::k128
                : swizzle == CU_TENSOR_MAP_SWIZZLE_64B ? ptx::Swizzle::k64
                : swizzle == CU_TENSOR_MAP_SWIZZLE_32B ? ptx::Swizzle::k32
                                                       : ptx::Swizzle::kNone;
  if (!ptx::why_refused(map).empty()) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(result, &map, sizeof map);
  return CUDA_SUCCESS;
}

}  // namespace

void* driver_function(const char* name) {
  return std::strcmp(name, "cuTensorMapEncodeTiled") == 0 ? reinterpret_cast<void*>(encode) : nullptr;
}

}  // namespace fpdist::emulated
