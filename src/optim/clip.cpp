#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/optim/adamw.hpp"

namespace fpdist::optim {
namespace {

/// Partial sums of fixed length, added in order: the same bits for any number of threads.
constexpr int64_t kRunElems = 1 << 16;

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

}  // namespace

double global_norm(std::span<const at::Tensor> pieces, comm::Communicator& axis) {
  at::Tensor sum = at::zeros({1}, at::kDouble);
  for (const at::Tensor& piece : pieces) {
    check(piece.is_contiguous() && piece.device().is_cpu() &&
              (piece.scalar_type() == at::kFloat || piece.scalar_type() == at::kDouble),
          "global_norm: the gradient must be contiguous float32 or float64 pieces on the CPU");
    sum.data_ptr<double>()[0] += piece.scalar_type() == at::kDouble
                                     ? sum_of_squares(piece.const_data_ptr<double>(), piece.numel())
                                     : sum_of_squares(piece.const_data_ptr<float>(), piece.numel());
  }
  axis.all_reduce(sum, comm::ReduceOp::kSum);
  return std::sqrt(sum.data_ptr<double>()[0]);
}

double clip_coefficient(double norm, double max_norm) {
  if (max_norm == 0) return 1;
  const double coefficient = max_norm / (norm + 1e-6);
  return coefficient > 1 ? 1 : coefficient;  // a NaN norm stays NaN: the trainer must see it
}

}  // namespace fpdist::optim
