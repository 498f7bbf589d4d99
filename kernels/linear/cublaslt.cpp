#include "kernels/linear/cublaslt.hpp"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cublasLt.h>
#include <torch/library.h>

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace fpdist::kernels {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
constexpr size_t kDevices = 64;

void check_status(cublasStatus_t status, const char* call) {
  check<CublasLtError>(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: ", call, " failed: ", cublasGetStatusString(status));
}

template <auto Destroy>
struct Deleter {
  template <typename T>
  void operator()(T* owned) const noexcept {
    Destroy(owned);  // a status at this point has nobody to go to
  }
};
template <typename T, auto Destroy>
using Owner = std::unique_ptr<std::remove_pointer_t<T>, Deleter<Destroy>>;
using Handle = Owner<cublasLtHandle_t, cublasLtDestroy>;
using Description = Owner<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owner<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owner<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t type_of(at::ScalarType dtype) {
  check(dtype == at::kBFloat16 || dtype == at::kFloat, "cuBLASLt: a product of ", dtype,
        " is not planned for: bfloat16 in, bfloat16 or float32 out");
  return dtype == at::kBFloat16 ? CUDA_R_16BF : CUDA_R_32F;
}

template <typename T>
void set(const Description& description, cublasLtMatmulDescAttributes_t attribute, const T& value, const char* name) {
  check_status(cublasLtMatmulDescSetAttribute(description.get(), attribute, &value, sizeof value), name);
}

Description describe(const GemmCall& call, const void* vector, int32_t sms) {
  cublasLtMatmulDesc_t raw = nullptr;
  check_status(cublasLtMatmulDescCreate(&raw, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
  Description description(raw);
  const auto operation = [](bool transposes) { return transposes ? CUBLAS_OP_T : CUBLAS_OP_N; };
  set(description, CUBLASLT_MATMUL_DESC_TRANSA, operation(call.transpose_a), "TRANSA");
  set(description, CUBLASLT_MATMUL_DESC_TRANSB, operation(call.transpose_b), "TRANSB");
  if (sms > 0) set(description, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, sms, "SM_COUNT_TARGET");
  if (call.epilogue == Epilogue::kNone) return description;
  const cublasLtEpilogue_t epilogue =
      call.epilogue == Epilogue::kBias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_BGRADB;
  set(description, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue, "EPILOGUE");
  set(description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector, "BIAS_POINTER");
  set(description, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(call.output), "BIAS_DATA_TYPE");
  return description;
}

Layout layout_of(at::ScalarType dtype, int64_t rows, int64_t columns, int64_t leading) {
  cublasLtMatrixLayout_t raw = nullptr;
  check_status(cublasLtMatrixLayoutCreate(&raw, type_of(dtype), static_cast<uint64_t>(rows),
                                          static_cast<uint64_t>(columns), leading),
               "cublasLtMatrixLayoutCreate");
  return Layout(raw);
}

Preference preference_of(const GemmCall& call) {
  cublasLtMatmulPreference_t raw = nullptr;
  check_status(cublasLtMatmulPreferenceCreate(&raw), "cublasLtMatmulPreferenceCreate");
  Preference preference(raw);
  const auto put = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check_status(cublasLtMatmulPreferenceSetAttribute(raw, attribute, &value, sizeof value), "MatmulPreference");
  };
  put(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<size_t>(kWorkspaceBytes));
  put(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(call.alignment_a));
  put(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(call.alignment_b));
  put(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(call.alignment_c));
  put(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(call.alignment_d));
  // A product, with what is added to it, is rounded once: where k is split, the parts meet in float32.
  put(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  return preference;
}

/// One device's cuBLASLt. The remembered algorithms are a pure function of call and SM target, so it is no matter who
/// shares them; torch keeps its own handles the same way.
class CublasLt {
 public:
  void set_sms(int64_t sms) { sms_ = static_cast<int32_t>(sms); }

  /// `c` is d where the call has none of its own.
  bool run(const GemmCall& call, const void* a, const void* b, const void* c, void* d, const void* vector,
           const at::Tensor& like) {
    const int32_t sms = sms_;
    const Description description = describe(call, vector, sms);
    const Layout layout_a =
        layout_of(call.input, call.transpose_a ? call.k : call.m, call.transpose_a ? call.m : call.k, call.lda);
    const Layout layout_b =
        layout_of(call.input, call.transpose_b ? call.n : call.k, call.transpose_b ? call.k : call.n, call.ldb);
    const Layout layout_c = layout_of(call.output, call.m, call.n, call.ldc);
    const Layout layout_d = layout_of(call.output, call.m, call.n, call.ldd);
    const auto algorithm = find(call, sms, [&](cublasLtMatmulHeuristicResult_t* result, int* found) {
      return cublasLtMatmulAlgoGetHeuristic(handle(), description.get(), layout_a.get(), layout_b.get(), layout_c.get(),
                                            layout_d.get(), preference_of(call).get(), 1, result, found);
    });
    if (!algorithm) return false;
    const at::Tensor workspace = at::empty({kWorkspaceBytes}, like.options().dtype(at::kByte));
    const float one = 1, beta = call.accumulates ? 1 : 0;
    check_status(cublasLtMatmul(handle(), description.get(), &one, a, layout_a.get(), b, layout_b.get(), &beta, c,
                                layout_c.get(), d, layout_d.get(), &*algorithm, workspace.mutable_data_ptr(),
                                static_cast<size_t>(kWorkspaceBytes),
                                c10::cuda::getCurrentCUDAStream(like.device().index()).stream()),
                 "cublasLtMatmul");
    return true;
  }

 private:
  cublasLtHandle_t handle() {
    const std::lock_guard lock(mutex_);
    if (handle_ == nullptr) {
      cublasLtHandle_t raw = nullptr;
      check_status(cublasLtCreate(&raw), "cublasLtCreate");
      handle_.reset(raw);
    }
    return handle_.get();
  }

  template <typename Ask>
  std::optional<cublasLtMatmulAlgo_t> find(const GemmCall& call, int32_t sms, Ask ask) {
    {
      const std::lock_guard lock(mutex_);
      const auto known = algorithm_.find({call, sms});
      if (known != algorithm_.end()) return known->second;
    }
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status = ask(&result, &found);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check_status(status, "cublasLtMatmulAlgoGetHeuristic");
    std::optional<cublasLtMatmulAlgo_t> algorithm;
    if (status == CUBLAS_STATUS_SUCCESS && found > 0) algorithm = result.algo;
    const std::lock_guard lock(mutex_);
    return algorithm_.emplace(std::pair{call, sms}, algorithm).first->second;
  }

  std::mutex mutex_;
  Handle handle_;
  std::atomic<int32_t> sms_ = 0;
  std::map<std::pair<GemmCall, int32_t>, std::optional<cublasLtMatmulAlgo_t>> algorithm_;
};

CublasLt& cublaslt_of(int64_t device) {
  // Never destroyed: the CUDA runtime may be gone before the process's last destructors run.
  static auto* const all = new std::array<CublasLt, kDevices>;
  check(device >= 0 && device < static_cast<int64_t>(kDevices), "cuBLASLt: there is no device ", device);
  return (*all)[static_cast<size_t>(device)];
}

bool run(const GemmCall& call, const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, at::Tensor& d,
         const void* vector) {
  const c10::cuda::CUDAGuard guard(d.device());
  return cublaslt_of(d.device().index())
      .run(call, b.const_data_ptr(), a.const_data_ptr(), c.const_data_ptr(), d.mutable_data_ptr(), vector, d);
}

at::Tensor with_rows(const at::Tensor& matrix) { return has_rows(matrix) ? matrix : matrix.contiguous(); }

void check_vector(const at::Tensor& vector, const at::Tensor& d) {
  check(vector.is_contiguous() && vector.scalar_type() == d.scalar_type(), "cuBLASLt: the bias is ",
        vector.scalar_type(), ", the product ", d.scalar_type(), ": both must be one dtype, the bias contiguous");
}

}  // namespace

void cublaslt_product(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, at::Tensor& d,
                      bool accumulates) {
  const at::Tensor left = with_rows(a), right = with_rows(b);
  if (a.scalar_type() != at::kBFloat16 || a.numel() == 0 || b.numel() == 0 || !has_rows(d))
    return aten_product(left, transpose_a, right, transpose_b, d, accumulates);
  const GemmCall call = product_call(left, transpose_a, right, transpose_b, d, accumulates);
  if (!run(call, left, right, d, d, nullptr)) aten_product(left, transpose_a, right, transpose_b, d, accumulates);
}

bool cublaslt_product_with(Epilogue epilogue, const at::Tensor& vector, const at::Tensor& a, bool transpose_a,
                           const at::Tensor& b, bool transpose_b, at::Tensor& d, bool accumulates) {
  if (a.scalar_type() != at::kBFloat16 || a.numel() == 0 || b.numel() == 0 || !has_rows(d)) return false;
  const at::Tensor left = with_rows(a), right = with_rows(b);
  check_vector(vector, d);
  GemmCall call = product_call(left, transpose_a, right, transpose_b, d, accumulates, epilogue);
  call.alignment_vector = alignment_of(vector);  // the heuristic looks at the address
  return run(call, left, right, d, d, vector.const_data_ptr());
}

bool cublaslt_sum(const at::Tensor& c, const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b,
                  at::Tensor& d) {
  if (a.scalar_type() != at::kBFloat16 || a.numel() == 0 || b.numel() == 0 || !has_rows(d)) return false;
  const at::Tensor left = with_rows(a), right = with_rows(b), addend = with_rows(c);
  return run(sum_call(addend, left, transpose_a, right, transpose_b, d), left, right, addend, d, nullptr);
}

void set_sm_target(int64_t device, int64_t sms) { cublaslt_of(device).set_sms(sms); }

}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) { m.def("set_sm_target(int device, int sms) -> ()", fpdist::kernels::set_sm_target); }
