#include "fpdist/parallel/zero_reducer.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace fpdist::parallel {

ZeroReducer::ZeroReducer(ops::FlatParameters& parameters, comm::Communicator& axis)
    : parameters_(parameters), axis_(axis) {
  const int64_t share = parameters.size() / axis.size(), left = parameters.size() % axis.size();
  for (int rank = 0; rank < axis.size(); ++rank) counts_.push_back(share + (rank < left ? 1 : 0));
  begin_ = axis.rank() * share + std::min<int64_t>(axis.rank(), left);
  end_ = begin_ + counts_[axis.rank()];
}

at::Tensor ZeroReducer::reduce_gradients() {
  at::Tensor shard = parameters_.main_grad().narrow(0, begin_, end_ - begin_);
  if (axis_.size() > 1) axis_.reduce_scatter_v(parameters_.main_grad(), shard, counts_);
  return shard;
}

void ZeroReducer::gather_values() {
  if (axis_.size() == 1) return;
  at::Tensor& values = parameters_.value();
  axis_.all_gather_v(values.narrow(0, begin_, end_ - begin_), values, counts_);
}

}  // namespace fpdist::parallel
