#pragma once
// optim: AdamW over one rank's shard of the flat parameters, with masters in the accumulation dtype.
// Source: Loshchilov & Hutter, "Decoupled weight decay regularization" (ICLR 2019), torch.optim.AdamW's order of
// operations.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/optim/options.hpp"

namespace fpdist::optim {

/// Collective on `axis`. Euclidean norm of the gradient whose disjoint parts the ranks hold, each in flat pieces:
/// float64 sums of squares, added piece by piece, then in rank order. All pieces on `device`, which a rank without any
/// names too. Waits for the device.
double global_norm(std::span<const at::Tensor> pieces, comm::Communicator& axis, at::Device device = at::kCPU);
/// The same as a float64 scalar on the device, which the host does not wait for.
at::Tensor global_norm_tensor(std::span<const at::Tensor> pieces, comm::Communicator& axis,
                              at::Device device = at::kCPU);

/// torch.nn.utils.clip_grad_norm_'s coefficient: min(1, max_norm / (norm + 1e-6)); 1 when max_norm is 0.
double clip_coefficient(double norm, double max_norm);
at::Tensor clip_coefficient(const at::Tensor& norm, double max_norm);

class AdamW {
 public:
  /// `value_shard`: view of the flat value buffer, elements [begin, end) of which those below `decayed` (flat index)
  /// take weight decay. The masters are copied from it, or are it where its dtype is the accumulation dtype already.
  AdamW(const at::Tensor& value_shard, int64_t begin, int64_t decayed, const OptimOptions& options);
  /// One update of the masters from grad_shard (already clipped, accumulation dtype); writes them back, rounded, into
  /// the value shard.
  void step(const at::Tensor& grad_shard, double learning_rate);

  at::Tensor master() const {
    return master_;
  }  ///< [end - begin] accumulation dtype (the value shard itself when equal)
  at::Tensor exp_avg() const { return exp_avg_; }
  at::Tensor exp_avg_sq() const { return exp_avg_sq_; }
  int64_t steps() const { return steps_; }

 private:
  OptimOptions options_;
  at::Tensor value_, master_, exp_avg_, exp_avg_sq_;
  int64_t decayed_;  ///< first elements of the shard that take weight decay
  int64_t steps_ = 0;
};

}  // namespace fpdist::optim
