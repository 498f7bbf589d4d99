#include "kernels/linear/packed_weight.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "fpdist/core/error.hpp"
#include "kernels/linear/gemm_call.hpp"

// Of oneMKL, which x86's torch has inside; null where it is missing.
extern "C" {
__attribute__((weak)) size_t cblas_sgemm_pack_get_size(int identifier, int m, int n, int k);
__attribute__((weak)) void cblas_sgemm_pack(int layout, int identifier, int transpose, int m, int n, int k, float alpha,
                                            const float* from, int ld, float* to);
__attribute__((weak)) void cblas_sgemm_compute(int layout, int transpose_a, int transpose_b, int m, int n, int k,
                                               const float* a, int lda, const float* b, int ldb, float beta, float* c,
                                               int ldc);
}

namespace fpdist::kernels {
namespace {

constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112, kPacked = 151, kIsB = 162;  // mkl_cblas.h
constexpr int kRows = 128;  // MKL asks for how many; the order that it packs in depends on neither this nor threads

bool can_pack(const at::Tensor& weight) {
  return cblas_sgemm_pack_get_size != nullptr && cblas_sgemm_pack != nullptr && cblas_sgemm_compute != nullptr &&
         weight.device().is_cpu() && weight.scalar_type() == at::kFloat && weight.dim() == 2 && weight.numel() > 0 &&
         std::max(weight.size(0), weight.size(1)) <= std::numeric_limits<int>::max();
}

}  // namespace

std::shared_ptr<const PackedWeight> pack_weight(const at::Tensor& weight, std::span<const int64_t> begins) {
  if (!can_pack(weight)) return nullptr;
  const at::Tensor from = weight.contiguous();
  const int in = static_cast<int>(from.size(1));
  auto packed = std::make_shared<PackedWeight>();
  packed->out = from.size(0), packed->in = in;
  for (size_t p = 0; p < begins.size(); ++p) {
    const int64_t begin = begins[p], end = p + 1 < begins.size() ? begins[p + 1] : packed->out;
    const int count = static_cast<int>(end - begin);
    const auto bytes = static_cast<int64_t>(cblas_sgemm_pack_get_size(kIsB, kRows, count, in));
    PackedPart& part = packed->part.emplace_back();
    part.words = at::empty({(bytes + 3) / 4}, from.options()), part.begin = begin, part.count = count;
    cblas_sgemm_pack(kRowMajor, kIsB, kTransposed, kRows, count, in, 1.0f, from.const_data_ptr<float>() + begin * in,
                     in, part.words.mutable_data_ptr<float>());
  }
  return packed;
}

void part_product(const at::Tensor& x, const PackedWeight& weight, const PackedPart& part, at::Tensor& y,
                  bool accumulates) {
  cblas_sgemm_compute(kRowMajor, kPlain, kPacked, static_cast<int>(x.size(0)), static_cast<int>(part.count),
                      static_cast<int>(weight.in), x.const_data_ptr<float>(), static_cast<int>(leading_dim(x)),
                      part.words.const_data_ptr<float>(), static_cast<int>(part.count), accumulates ? 1.0f : 0.0f,
                      y.mutable_data_ptr<float>() + part.begin, static_cast<int>(leading_dim(y)));
}

at::Tensor packed_linear(const at::Tensor& x, const PackedWeight& weight, const std::optional<at::Tensor>& bias,
                         const std::optional<at::Tensor>& residual) {
  check<ShapeError>(x.dim() == 2 && x.size(1) == weight.in && x.scalar_type() == at::kFloat && x.device().is_cpu() &&
                        x.size(0) <= std::numeric_limits<int>::max(),
                    "packed linear: x is ", x.sizes(), " ", x.scalar_type(), " on ", x.device().str(),
                    "; the weight takes float32 rows of ", weight.in, " on the CPU");
  const at::Tensor rows = x.contiguous();
  check<ShapeError>(!residual || residual->sizes() == at::IntArrayRef({x.size(0), weight.out}),
                    "packed linear: the residual is ", residual ? residual->sizes() : at::IntArrayRef(),
                    "; the product is [", x.size(0), ", ", weight.out, "]");
  at::Tensor y = at::empty({x.size(0), weight.out}, x.options());
  if (residual) y.copy_(*residual);
  if (bias) residual ? y.add_(*bias) : y.copy_(bias->expand_as(y));
  for (const PackedPart& part : weight.part)
    if (y.numel() > 0) part_product(rows, weight, part, y, bias || residual);
  return y;
}

}  // namespace fpdist::kernels
