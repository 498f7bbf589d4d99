// cuBLASLt's matmul as its documentation has it (12.x/13.x, "cublasLtMatmul"): column-major D = op(A) op(B) * alpha +
// beta * C with float32 sums, epilogues BIAS (a vector over D's rows) and BGRADB (over D's columns, sums of op(B) along
// k). Says no where the real one does or where fpdist has no business: unknown attributes, misaligned pointers.
#include <ATen/ATen.h>
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "tests/emulation/cuda/streams.hpp"

namespace fpdist::emulated {
namespace {

struct Description {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* vector = nullptr;
  cudaDataType_t vector_type = CUDA_R_32F;
  int32_t sms = 0;
};
struct Layout {
  cudaDataType_t type = CUDA_R_32F;
  int64_t rows = 0, columns = 0, leading = 0;
};
struct Preference {
  size_t workspace = 0;
  uint32_t reductions = 0;
  uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};

const Layout& layout_of(cublasLtMatrixLayout_t handle) { return *reinterpret_cast<const Layout*>(handle); }
const Description& description_of(cublasLtMatmulDesc_t handle) { return *reinterpret_cast<const Description*>(handle); }

template <typename T>
cublasStatus_t take(T& into, const void* from, size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&into, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

/// The column-major matrix as a strided tensor [rows, columns].
at::Tensor matrix(const void* data, const Layout& layout) {
  const auto dtype = layout.type == CUDA_R_16BF ? at::kBFloat16 : at::kFloat;
  return at::from_blob(const_cast<void*>(data), {layout.rows, layout.columns}, {1, layout.leading}, dtype);
}

bool is_sane(const Layout& layout) {
  return (layout.type == CUDA_R_16BF || layout.type == CUDA_R_32F) && layout.rows > 0 && layout.columns > 0 &&
         layout.leading >= layout.rows;
}

struct Sizes {
  int64_t m = 0, n = 0, k = 0;
};
bool fit(const Description& description, const Layout& a, const Layout& b, const Layout& c, const Layout& d,
         Sizes& sizes) {
  if (!is_sane(a) || !is_sane(b) || !is_sane(c) || !is_sane(d) || a.type != b.type) return false;
  const bool ta = description.a == CUBLAS_OP_T, tb = description.b == CUBLAS_OP_T;
  sizes = {ta ? a.columns : a.rows, tb ? b.rows : b.columns, ta ? a.rows : a.columns};
  const auto is_result = [&](const Layout& x) { return x.rows == sizes.m && x.columns == sizes.n; };
  return (tb ? b.columns : b.rows) == sizes.k && is_result(c) && is_result(d);
}

at::Tensor transposed(const at::Tensor& x, cublasOperation_t operation) { return operation == CUBLAS_OP_T ? x.t() : x; }

void compute(const Description& description, float alpha, const at::Tensor& a, const at::Tensor& b, float beta,
             const at::Tensor& c, at::Tensor d) {
  const at::Tensor left = transposed(a, description.a).to(at::kFloat),
                   right = transposed(b, description.b).to(at::kFloat);
  at::Tensor sum = at::mm(left, right).mul_(alpha);
  if (beta != 0) sum.add_(c.to(at::kFloat), beta);
  const auto dtype = description.vector_type == CUDA_R_16BF ? at::kBFloat16 : at::kFloat;
  // Seen on an H100: beside a C the bias may come behind D's rounding, by a pass of its own.
  if (description.epilogue == CUBLASLT_EPILOGUE_BIAS && beta != 0) sum = sum.to(d.scalar_type()).to(at::kFloat);
  if (description.epilogue == CUBLASLT_EPILOGUE_BIAS)
    sum.add_(at::from_blob(description.vector, {d.size(0)}, dtype).to(at::kFloat).unsqueeze(1));
  if (description.epilogue == CUBLASLT_EPILOGUE_BGRADB)
    at::from_blob(description.vector, {d.size(1)}, dtype).copy_(right.sum(0));
  d.copy_(sum);
}

}  // namespace
}  // namespace fpdist::emulated

using namespace fpdist::emulated;

extern "C" {

const char* cublasGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "emulated cuBLASLt: refused";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return *handle = reinterpret_cast<cublasLtHandle_t>(new int), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return delete reinterpret_cast<int*>(handle), CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t compute_type,
                                        cudaDataType_t scale) {
  if (compute_type != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  return *made = reinterpret_cast<cublasLtMatmulDesc_t>(new Description), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t made) {
  return delete reinterpret_cast<Description*>(made), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t made, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  auto& description = *reinterpret_cast<Description*>(made);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(description.a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(description.b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(description.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(description.vector, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return take(description.vector_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET:
      return take(description.sms, value, bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  *made = reinterpret_cast<cublasLtMatrixLayout_t>(
      new Layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), leading});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t made) {
  return delete reinterpret_cast<Layout*>(made), CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
  return *made = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t made) {
  return delete reinterpret_cast<Preference*>(made), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t made,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  auto& preference = *reinterpret_cast<Preference*>(made);
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(preference.reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(preference.workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return take(preference.alignment_a, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return take(preference.alignment_b, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return take(preference.alignment_c, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(preference.alignment_d, value, bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

/// The algorithm remembers what it was found for: used for another shape, epilogue or alignment, the vector's too,
/// whose address the heuristic sees, cublasLtMatmul refuses it. For bfloat16 rows an odd number of elements apart,
/// which the real one may have nothing for, there is none.
struct Chosen {
  int64_t m, n, k;
  uint32_t alignment[4];
  int32_t epilogue, sms;
  uint32_t vector_alignment;

  static uint32_t alignment_of(const void* address) {
    const auto bits = reinterpret_cast<uintptr_t>(address);
    return bits == 0 ? 0 : std::min<uint32_t>(256, static_cast<uint32_t>(bits & (~bits + 1)));
  }
};
bool is_odd(const Layout& layout) {
  return layout.type == CUDA_R_16BF && layout.leading % 2 != 0 && layout.columns > 1;
}
static_assert(sizeof(Chosen) <= sizeof(cublasLtMatmulAlgo_t));

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t made, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  Sizes sizes;
  *found = 0;
  if (wanted < 1 || !fit(description_of(description), layout_of(a), layout_of(b), layout_of(c), layout_of(d), sizes))
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const cublasLtMatrixLayout_t layout : {a, b, c, d})
    if (is_odd(layout_of(layout))) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto& preference = *reinterpret_cast<const Preference*>(made);
  const Chosen chosen{sizes.m,
                      sizes.n,
                      sizes.k,
                      {preference.alignment_a, preference.alignment_b, preference.alignment_c, preference.alignment_d},
                      static_cast<int32_t>(description_of(description).epilogue),
                      description_of(description).sms,
                      Chosen::alignment_of(description_of(description).vector)};
  results[0] = {};
  std::memcpy(&results[0].algo, &chosen, sizeof chosen);
  results[0].workspaceSize = std::min<size_t>(preference.workspace, 1024);
  return *found = 1, CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t made, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b,
                              const void* beta, const void* c, cublasLtMatrixLayout_t layout_c, void* d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  const Description& description = description_of(made);
  Sizes sizes;
  if (!fit(description, layout_of(layout_a), layout_of(layout_b), layout_of(layout_c), layout_of(layout_d), sizes))
    return CUBLAS_STATUS_INVALID_VALUE;
  Chosen chosen;
  std::memcpy(&chosen, algorithm, sizeof chosen);
  const void* const pointer[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (reinterpret_cast<uintptr_t>(pointer[i]) % chosen.alignment[i] != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (chosen.m != sizes.m || chosen.n != sizes.n || chosen.k != sizes.k || chosen.sms != description.sms ||
      chosen.epilogue != static_cast<int32_t>(description.epilogue) || workspace_bytes < 1024 ||
      Chosen::alignment_of(description.vector) < chosen.vector_alignment)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  stream_of(stream).drain();
  std::memset(workspace, 0xff, workspace_bytes);  // nobody may have anything there
  compute(description, *static_cast<const float*>(alpha), matrix(a, layout_of(layout_a)),
          matrix(b, layout_of(layout_b)), *static_cast<const float*>(beta), matrix(c, layout_of(layout_c)),
          matrix(d, layout_of(layout_d)));
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
