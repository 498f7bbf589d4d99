#include "src/generate/keys.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "src/core/index.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::generate {
namespace {

at::Tensor int32s(const std::vector<int32_t>& numbers) { return at::tensor(at::ArrayRef<int32_t>(numbers), at::kInt); }

/// On the device, without waiting for it.
at::Tensor int64s(const std::vector<const std::vector<int32_t>*>& parts, at::Device device) {
  std::vector<at::Tensor> all;
  for (const std::vector<int32_t>* part : parts) all.push_back(int32s(*part));
  const at::Tensor host = at::cat(all).to(at::kLong);
  return device.is_cuda() ? host.pin_memory().to(device, /*non_blocking=*/true) : host;
}
at::Tensor int64s(const std::vector<int32_t>& numbers, at::Device device) {
  return int64s(std::vector{&numbers}, device);
}

}  // namespace

int64_t bytes_per_row(const Stages& stages) {
  size_t bytes = 0;
  for (const model::Transformer* run : stages.runs) {
    const model::KeptKeys row = run->make_kept_keys(1);
    for (const auto* tensors : {&row.keys, &row.values})
      for (const at::Tensor& tensor : *tensors) bytes += tensor.nbytes();
  }
  at::Tensor most = at::full({1}, static_cast<int64_t>(bytes), at::kLong);
  if (stages.pp != nullptr) stages.pp->all_reduce(most, comm::ReduceOp::kMax);
  return most.item<int64_t>();
}

Keys::Keys(const Stages& stages, const SamplingOptions& options)
    : stages_(stages), flex_(options.flex_prefill), prefix_kv_(options.prefix_kv) {
  if (prefix_kv_.is_on()) by_layer_.emplace(stages_, prefix_kv_);
  for (const model::Transformer* run : stages.runs) {
    kept_.push_back(run->make_kept_keys(0));
    kept_.back().batch_invariant = options.batch_invariant;
  }
}

void Keys::move_to(const Wave& wave, const Moves& moves, std::vector<OwnRun> runs) {
  key_row_ = at::arange(wave.places(), at::kInt);
  key_end_ = int32s(wave.end);
  key_runs_ = ops::runs_of_keys(key_row_, key_end_);
  padding_ = wave.padding(0), multiple_ = wave.padding_rows;
  if (by_layer_) return by_layer_->move_to(kept_, wave, moves, std::move(runs));
  const at::Device device = stages_.runs.front()->options().device;
  const at::Tensor from = int64s(moves.from, device), to = int64s(moves.to, device);
  for (model::KeptKeys& kept : kept_)
    for (auto* tensors : {&kept.keys, &kept.values})
      for (at::Tensor& last : *tensors) {
        at::Tensor next = at::zeros({wave.places(), last.size(1), last.size(2)}, last.options());
        if (!moves.to.empty()) next.index_copy_(0, to, last.index_select(0, from));
        last = std::move(next);
      }
}

at::Tensor Keys::compute(QueryRows rows) {
  const auto count = static_cast<int64_t>(rows.size());
  for (int32_t i = 0; rows.size() % index(multiple_) != 0; ++i) rows.add(padding_ + i, 0, 0);
  const model::TransformerOptions& options = stages_.runs.front()->options();
  const auto all = static_cast<int64_t>(rows.size());
  const at::Tensor own = int64s({&rows.place, &rows.token, &rows.depth}, options.device);
  const at::Tensor place = own.narrow(0, 0, all);
  const auto sparse = sparse_rows(rows.window, rows.place, key_row_, key_end_, flex_);
  for (model::KeptKeys& kept : kept_) kept.row = place, kept.sparse = sparse;
  const int parts = options.tp == nullptr ? 1 : options.tp->size();
  parallel::RowsHere here{.token = own.narrow(0, all, all),
                          .depth = own.narrow(0, 2 * all, all),
                          .key = {},
                          .shard_rows = parallel::split_evenly(all, parts),
                          .mask = {int32s(rows.place), key_row_, key_end_},
                          .calls = {},
                          .exchange = {}};
  here.calls = ops::prepare_decoding(here.mask, *key_runs_, options.device);
  if (by_layer_) by_layer_->begin(kept_, rows.place);
  const at::Tensor hidden = pass(stages_, here, kept_, sent_);
  if (by_layer_) by_layer_->end(kept_, rows.grown);
  if (sparse) area_ += sparse->area;
  return has_logits() ? hidden.narrow(0, 0, count) : at::Tensor();
}

bool Keys::has_logits() const { return stages_.pp == nullptr || stages_.pp->rank() + 1 == stages_.pp->size(); }

at::Tensor Keys::logits(const at::Tensor& hidden) const {
  return stages_.runs.back()->logits(hidden).to(at::kFloat).contiguous();
}

at::Tensor Keys::own_logits(const at::Tensor& hidden) const {
  return stages_.runs.back()->own_logits(hidden).to(at::kFloat).contiguous();
}

comm::Communicator* Keys::tp() const {
  comm::Communicator* const tp = stages_.runs.back()->options().tp;
  return tp != nullptr && tp->size() > 1 ? tp : nullptr;
}

int64_t Keys::vocabulary() const { return stages_.runs.back()->config().vocab_size; }

void Keys::begin_sharing(at::Tensor& found) {
  if (stages_.pp == nullptr) return;
  comm::Communicator& pp = *stages_.pp;
  const int last = pp.size() - 1;
  pp.group_begin();
  if (pp.rank() == last)
    for (int other = 0; other < last; ++other) pp.send(found, other);
  else
    pp.receive(found, last);
  sent_.push_back(pp.group_start());
}

void Keys::end_sharing() { wait_for(sent_); }

}  // namespace fpdist::generate
