#include "src/parallel/zero/zero_reducer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <exception>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::parallel {

ZeroReducer::ZeroReducer(ops::FlatParameters& parameters, comm::Communicator& axis, size_t late,
                         int64_t bucket_elements)
    : parameters_(parameters),
      axis_(axis),
      value_(parameters.value()),
      main_grad_(parameters.main_grad()),
      exceptions_(std::uncaught_exceptions()) {
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
  gathers_.resize(buckets_.size());
  if (axis_.size() > 1 && !all.empty())
    for (const at::Tensor* buffer : {&value_, &main_grad_}) axis_.keep_buffer(*buffer);
  set_order_of_use(all);
  parameters_.set_settle([this] { settle(); });
  begin();
}

ZeroReducer::~ZeroReducer() {
  parameters_.set_settle({});
  if (std::uncaught_exceptions() > exceptions_) return;
  try {
    settle();
  } catch (const std::exception&) {  // a peer is lost; whoever talks to it next says so
  }
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
  settle();
}

void ZeroReducer::reduce(size_t b) {
  const Bucket& bucket = buckets_[b];
  parameters_.settle_gradients(bucket.first, bucket.last);
  if (axis_.size() == 1) return;
  at::Tensor own = main_grad_.narrow(0, pieces_[b].begin, pieces_[b].size());
  under_way_.push_back(
      axis_.start_reduce_scatter_v(main_grad_.narrow(0, bucket.range.begin, bucket.range.size()), own, bucket.counts));
}

std::vector<at::Tensor> ZeroReducer::gradients() const {
  std::vector<at::Tensor> own;
  for (const FlatRange& piece : pieces_) own.push_back(main_grad_.narrow(0, piece.begin, piece.size()));
  return own;
}

void ZeroReducer::set_order_of_use(std::span<const ops::ParameterPtr> parameters) {
  const size_t count = parameters_.parameters().size();
  check(parameters.size() == count, "ZeroReducer: an order of use of ", parameters.size(), " parameters, it has ",
        count);
  std::vector<size_t> first_use(buckets_.size(), count);
  for (size_t use = 0; use < count; ++use) {
    const auto bucket = bucket_of_.find(parameters[use].get());
    check(bucket != bucket_of_.end(), "ZeroReducer: the order of use names a parameter that it does not have");
    first_use[bucket->second] = std::min(first_use[bucket->second], use);
  }
  order_of_use_.resize(buckets_.size());
  std::iota(order_of_use_.begin(), order_of_use_.end(), size_t{0});
  std::stable_sort(order_of_use_.begin(), order_of_use_.end(),
                   [&](size_t a, size_t b) { return first_use[a] < first_use[b]; });
}

std::unique_ptr<comm::Work> ZeroReducer::start_gather(at::Tensor& flat, size_t b) {
  const Bucket& bucket = buckets_[b];
  at::Tensor whole = flat.narrow(0, bucket.range.begin, bucket.range.size());
  return axis_.start_all_gather_v(flat.narrow(0, pieces_[b].begin, pieces_[b].size()), whole, bucket.counts);
}

void ZeroReducer::start_gather(size_t bucket) {
  if (gathers_.at(bucket)) throw std::logic_error("a bucket is gathered again before anybody waited for it");
  if (axis_.size() == 1) return;
  gathers_[bucket] = start_gather(value_, bucket);
  ++gathers_under_way_;
  if (gathers_[bucket]->done()) wait_for_values(bucket);  // the host's gathers are; then no reader is held up
}

void ZeroReducer::wait_for_values(size_t bucket) {
  if (!gathers_[bucket]) return;
  const std::unique_ptr<comm::Work> gather = std::exchange(gathers_[bucket], nullptr);
  --gathers_under_way_;
  gather->wait();
}

bool ZeroReducer::is_under_way(std::span<const ops::ParameterPtr> parameters) const {
  return gathers_under_way_ > 0 && std::any_of(parameters.begin(), parameters.end(), [&](const auto& parameter) {
           return gathers_[bucket_of_.at(parameter.get())] != nullptr;
         });
}

void ZeroReducer::need(std::span<const ops::ParameterPtr> parameters) {
  if (gathers_under_way_ == 0) return;
  for (const auto& parameter : parameters) wait_for_values(bucket_of_.at(parameter.get()));
}

void ZeroReducer::settle() {
  if (gathers_under_way_ == 0) return;
  for (const size_t bucket : order_of_use_) wait_for_values(bucket);
}

void ZeroReducer::gather_values() {
  for (const size_t bucket : order_of_use_) start_gather(bucket);
  settle();
}

void ZeroReducer::gather_gradients() {
  if (axis_.size() == 1) return;
  std::vector<std::unique_ptr<comm::Work>> gathers;
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) gathers.push_back(start_gather(main_grad_, bucket));
  for (const auto& gather : gathers) gather->wait();
}

}  // namespace fpdist::parallel
