#pragma once
// linear on the GPU: cuBLASLt behind one function. Which algorithm fits a call is asked once and remembered; the
// workspace (32 MiB, as on Hopper it should be) comes from torch's allocator, which hands memory of one stream to that
// stream only, so streams never share it. Part of libfpdist_cuda.

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "fpdist/core/error.hpp"
#include "kernels/linear/gemm_call.hpp"

namespace fpdist::kernels {

/// A cuBLASLt call failed: a broken installation or driver, or an earlier fault on the device.
class CublasLtError : public Error {
 public:
  explicit CublasLtError(const std::string& what) : Error(ExitCode::kUsage, what) {}
};

/// d (+)= op(a) op(b) as product_call has it, on the current stream of d's device, which it never waits for. bfloat16
/// goes to cuBLASLt, summed in float32; float32, float64 and what cuBLASLt has no algorithm for (odd leading dims) to
/// ATen, whose TF32 is the process's to leave off (Device).
void cublaslt_product(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, at::Tensor& d,
                      bool accumulates);

/// The same with an epilogue on `vector` (kBias: added, in d's dtype; kBiasGradient: written, in d's dtype). False, and
/// nothing done, where cuBLASLt has no algorithm for it: the caller takes another way.
bool cublaslt_product_with(Epilogue epilogue, const at::Tensor& vector, const at::Tensor& a, bool transpose_a,
                           const at::Tensor& b, bool transpose_b, at::Tensor& d, bool accumulates);

/// d = c + op(a) op(b), c [M,N] in d's dtype read where it lies and d only written: summed in float32, rounded once.
/// False, and nothing done, where a is not bfloat16 or cuBLASLt has no algorithm for it.
bool cublaslt_sum(const at::Tensor& c, const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b,
                  at::Tensor& d);

/// How many SMs of the device products may fill, 0: all. cuBLAS starts one block an SM and lets none go: while NCCL
/// holds some, the last blocks would wait for a second wave.
void set_sm_target(int64_t device, int64_t sms);

}  // namespace fpdist::kernels
