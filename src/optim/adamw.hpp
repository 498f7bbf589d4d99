#pragma once
// optim: AdamW over one rank's shard of the flat parameters, with masters in the accumulation dtype.
// Source: Loshchilov & Hutter, "Decoupled weight decay regularization" (ICLR 2019), torch.optim.AdamW's order of
// operations.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "fpdist/optim/options.hpp"

namespace fpdist::optim {

/// Elements of a shard from where the one before it ends, and the peak learning rate of those.
struct PeakSpan {
  int64_t end = 0;  ///< in the shard
  double learning_rate = 0;
};

class AdamW {
 public:
  /// `value_shard`: view of the flat value buffer, elements [begin, end) of which those below `decayed` (flat index)
  /// take weight decay. The masters are copied from it, or are it where its dtype is the accumulation dtype already.
  /// `peaks`: ascending, up to the shard's end; none: options.learning_rate throughout.
  AdamW(const at::Tensor& value_shard, int64_t begin, int64_t decayed, const OptimOptions& options,
        const std::vector<PeakSpan>& peaks = {});
  /// One update of the masters from grad_shard (already clipped, accumulation dtype), `factor` of the peak learning
  /// rates; writes them back, rounded, into the value shard. The same bits whatever spans of equal rates `peaks` had.
  /// `found_inf` [1] float32 on the same device: where it is 1 nothing changes, and the caller, once he has seen it,
  /// calls take_back().
  void step(const at::Tensor& grad_shard, double factor, const at::Tensor& found_inf = {});
  /// The last step changed nothing: it does not count.
  void take_back() { --steps_; }

  /// The master and the moments were written as they are after `steps` steps: values are rounded from them.
  void go_on_after(int64_t steps);

  /// Masters that the values are rounded from, [end - begin] accumulation dtype. Ahead of the first step.
  void set_master(const at::Tensor& master) { master_.copy_(master); }

  at::Tensor master() const {
    return master_;
  }  ///< [end - begin] accumulation dtype (the value shard itself when equal)
  at::Tensor exp_avg() const { return exp_avg_; }
  at::Tensor exp_avg_sq() const { return exp_avg_sq_; }
  int64_t steps() const { return steps_; }

 private:
  void round_values();
  /// Elements that are updated alike.
  struct Alike {
    int64_t begin, end;
    double learning_rate, weight_decay;
  };
  void cut(int64_t decayed, const std::vector<PeakSpan>& peaks);

  OptimOptions options_;
  at::Tensor value_, master_, exp_avg_, exp_avg_sq_;
  std::vector<Alike> alike_;  ///< one behind the other, all of the shard
  int64_t steps_ = 0;
};

}  // namespace fpdist::optim
