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

double global_norm(const at::Tensor& grad_shard, comm::Communicator& axis) {
  check(grad_shard.is_contiguous() && grad_shard.device().is_cpu() &&
            (grad_shard.scalar_type() == at::kFloat || grad_shard.scalar_type() == at::kDouble),
        "global_norm: the gradient must be a contiguous float32 or float64 tensor on the CPU");
  at::Tensor sum = at::empty({1}, at::kDouble);
  sum.data_ptr<double>()[0] = grad_shard.scalar_type() == at::kDouble
                                  ? sum_of_squares(grad_shard.const_data_ptr<double>(), grad_shard.numel())
                                  : sum_of_squares(grad_shard.const_data_ptr<float>(), grad_shard.numel());
  axis.all_reduce(sum, comm::ReduceOp::kSum);
  return std::sqrt(sum.data_ptr<double>()[0]);
}

double clip_coefficient(double norm, double max_norm) {
  if (max_norm == 0) return 1;
  const double coefficient = max_norm / (norm + 1e-6);
  return coefficient > 1 ? 1 : coefficient;  // a NaN norm stays NaN: the trainer must see it
}

}  // namespace fpdist::optim
