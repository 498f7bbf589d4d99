#include "src/optim/clip.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "fpdist/core/error.hpp"

namespace fpdist::optim {
namespace {

/// Partial sums of fixed length, added in order: the same bits for any number of threads.
constexpr int64_t kRunElems = 1 << 16;
constexpr int64_t kDeviceRunElems = 1 << 24;

template <typename T>
double sum_of_squares(const T* values, int64_t count) {
  const int64_t runs = (count + kRunElems - 1) / kRunElems;
  std::vector<double> partial(runs, 0.0);
  at::parallel_for(0, runs, 1, [&](int64_t first, int64_t last) {
    for (int64_t run = first; run < last; ++run) {
      const int64_t end = std::min(count, (run + 1) * kRunElems);
      double lane[8] = {};  // independent sums let the loop run as vectors
      int64_t i = run * kRunElems;
      for (; i + 8 <= end; i += 8) {
        for (int l = 0; l < 8; ++l) lane[l] += static_cast<double>(values[i + l]) * static_cast<double>(values[i + l]);
      }
      for (int l = 0; i < end; ++i, ++l) lane[l] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      for (const double sum : lane) partial[run] += sum;
    }
  });
  double sum = 0;
  for (const double part : partial) sum += part;
  return sum;
}

/// 0-dim float64 on the piece's device. There, runs bound what a widened copy may take; ATen's reductions add in an
/// order of their own, the same every time.
at::Tensor sum_of_squares(const at::Tensor& piece) {
  if (piece.is_cpu())
    return at::scalar_tensor(piece.scalar_type() == at::kDouble
                                 ? sum_of_squares(piece.const_data_ptr<double>(), piece.numel())
                                 : sum_of_squares(piece.const_data_ptr<float>(), piece.numel()),
                             at::kDouble);
  at::Tensor sum = at::zeros({}, piece.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < piece.numel(); begin += kDeviceRunElems) {
    const at::Tensor run = piece.narrow(0, begin, std::min(kDeviceRunElems, piece.numel() - begin));
    sum.add_(at::linalg_vector_norm(run, 2, {}, false, at::kDouble).square());
  }
  return sum;
}

}  // namespace

at::Tensor global_norm(std::span<const at::Tensor> pieces, comm::Communicator& axis, at::Device where) {
  at::Tensor sum = at::zeros({1}, at::TensorOptions(at::kDouble).device(where));
  for (const at::Tensor& piece : pieces) {
    check(piece.dim() == 1 && piece.is_contiguous() && piece.device() == where &&
              (piece.scalar_type() == at::kFloat || piece.scalar_type() == at::kDouble),
          "global_norm: the gradient must be flat float32 or float64 pieces on ", where, ", one is ",
          piece.scalar_type(), " on ", piece.device());
    sum.add_(sum_of_squares(piece));
  }
  axis.all_reduce(sum, comm::ReduceOp::kSum);
  return sum.sqrt_().squeeze(0);
}

at::Tensor clip_coefficient(const at::Tensor& norm, double max_norm) {
  if (max_norm == 0) return at::ones_like(norm);
  return at::reciprocal(norm + 1e-6).mul_(max_norm).clamp_max_(1.0);  // clamp keeps a NaN, too
}

}  // namespace fpdist::optim
