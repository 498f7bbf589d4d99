#include "fpdist/parallel/zero_reducer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/parallel/tensor_parallel.hpp"

namespace fpdist::parallel {

ZeroReducer::ZeroReducer(ops::FlatParameters& parameters, comm::Communicator& axis, size_t late,
                         int64_t bucket_elements)
    : parameters_(parameters), axis_(axis) {
  const auto& all = parameters.parameters();
  check(late <= all.size(), "ZeroReducer: the late parameters start at ", late, " of ", all.size());
  for (size_t p = 0; p < all.size(); ++p) number_of_[all[p].get()] = p;
  const auto cut = [&](size_t begin, size_t end) {
    int64_t elements = 0;
    for (size_t p = begin, first = begin; p < end; ++p) {
      elements += all[p]->value.numel();
      if (elements < bucket_elements && p + 1 < end) continue;
      add_bucket(first, p + 1);
      first = p + 1, elements = 0;
    }
  };
  cut(0, late);
  early_ = buckets_.size();
  cut(late, all.size());
  begin();
}

void ZeroReducer::add_bucket(size_t first, size_t last) {
  const auto& all = parameters_.parameters();
  Bucket bucket{.range = {parameters_.offset(first), parameters_.offset(last - 1) + all[last - 1]->value.numel()},
                .first = first,
                .last = last,
                .counts = {}};
  bucket.counts = split_evenly(bucket.range.size(), axis_.size());
  const auto own = bucket.counts.begin() + axis_.rank();
  const int64_t begin = std::accumulate(bucket.counts.begin(), own, bucket.range.begin);
  pieces_.push_back({begin, begin + *own});
  for (size_t p = first; p < last; ++p) {
    bucket_of_[all[p].get()] = buckets_.size();
    const FlatRange part{std::max(begin, parameters_.offset(p)),
                         std::min(begin + *own, parameters_.offset(p) + all[p]->value.numel())};
    if (part.begin < part.end) parts_.push_back({.piece = buckets_.size(), .parameter = p, .range = part});
  }
  buckets_.push_back(std::move(bucket));
}

void ZeroReducer::begin() {
  under_way_.clear();
  done_.assign(parameters_.parameters().size(), false);
  for (Bucket& bucket : buckets_) bucket.missing = bucket.last - bucket.first;
  next_ = early_;
}

void ZeroReducer::complete(std::span<const ops::ParameterPtr> parameters) {
  for (const auto& parameter : parameters) {
    const size_t number = number_of_.at(parameter.get());
    if (done_[number]) continue;
    done_[number] = true;
    --buckets_[bucket_of_.at(parameter.get())].missing;
  }
  reduce_whole_buckets();
}

void ZeroReducer::reduce_whole_buckets() {
  while (next_ > 0 && buckets_[next_ - 1].missing == 0) reduce(--next_);
}

void ZeroReducer::finish() {
  while (next_ > 0) reduce(--next_);
  for (size_t b = buckets_.size(); b-- > early_;) reduce(b);
  for (const auto& sum : std::exchange(under_way_, {})) sum->wait();
}

void ZeroReducer::reduce(size_t b) {
  if (axis_.size() == 1) return;
  const Bucket& bucket = buckets_[b];
  at::Tensor& sums = parameters_.main_grad();
  at::Tensor own = sums.narrow(0, pieces_[b].begin, pieces_[b].size());
  under_way_.push_back(
      axis_.start_reduce_scatter_v(sums.narrow(0, bucket.range.begin, bucket.range.size()), own, bucket.counts));
}

std::vector<at::Tensor> ZeroReducer::gradients() const {
  std::vector<at::Tensor> own;
  for (const FlatRange& piece : pieces_) own.push_back(parameters_.main_grad().narrow(0, piece.begin, piece.size()));
  return own;
}

void ZeroReducer::gather(at::Tensor& flat) {
  if (axis_.size() == 1) return;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    at::Tensor whole = flat.narrow(0, buckets_[b].range.begin, buckets_[b].range.size());
    axis_.all_gather_v(flat.narrow(0, pieces_[b].begin, pieces_[b].size()), whole, buckets_[b].counts);
  }
}

void ZeroReducer::gather_values() { gather(parameters_.value()); }
void ZeroReducer::gather_gradients() { gather(parameters_.main_grad()); }

}  // namespace fpdist::parallel
