#include "src/generate/keys.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "fpdist/ops/attention_calls.hpp"
#include "src/core/index.hpp"

namespace fpdist::generate {
namespace {

at::Tensor int32s(const std::vector<int32_t>& numbers) { return at::tensor(at::ArrayRef<int32_t>(numbers), at::kInt); }

at::Tensor int64s(const std::vector<int32_t>& numbers, at::Device device) {
  return int32s(numbers).to(at::kLong).to(device);
}

}  // namespace

int64_t bytes_per_row(const model::Transformer& model) {
  int64_t elements = 0;
  for (const arch::Layer& layer : model.config().layers)
    elements += 2 * layer.attention.kv_heads * layer.attention.head_dim;
  return elements * static_cast<int64_t>(c10::elementSize(model.options().dtype));
}

Keys::Keys(const model::Transformer& model) : model_(model) {}

void Keys::move_to(const Wave& wave, const Moves& moves) {
  const at::Device device = model_.options().device;
  const auto options = at::TensorOptions(model_.options().dtype).device(device);
  const at::Tensor from = int64s(moves.from, device), to = int64s(moves.to, device);
  const auto& layers = model_.config().layers;
  kept_.keys.resize(layers.size()), kept_.values.resize(layers.size());
  for (size_t l = 0; l < layers.size(); ++l)
    for (at::Tensor* kept : {&kept_.keys[l], &kept_.values[l]}) {
      at::Tensor next = at::zeros({wave.places(), layers[l].attention.kv_heads, layers[l].attention.head_dim}, options);
      if (!moves.to.empty()) next.index_copy_(0, to, kept->index_select(0, from));
      *kept = std::move(next);
    }
  key_row_ = at::arange(wave.places(), at::kInt);
  key_end_ = int32s(wave.end);
  padding_ = wave.padding(0);
}

at::Tensor Keys::compute(QueryRows rows) {
  const auto count = static_cast<int64_t>(rows.size());
  for (int32_t i = 0; rows.size() % index(kPadding) != 0; ++i) rows.add(padding_ + i, 0, 0);
  const at::Device device = model_.options().device;
  kept_.row = int64s(rows.place, device);
  parallel::RowsHere here{.token = int64s(rows.token, device),
                          .depth = int64s(rows.depth, device),
                          .shard_rows = {static_cast<int64_t>(rows.size())},
                          .mask = {int32s(rows.place), key_row_, key_end_},
                          .calls = {},
                          .exchange = {}};
  here.calls = ops::prepare_attention(here.mask, device);
  return model_.extend(here, kept_).narrow(0, 0, count);
}

at::Tensor Keys::logits(const at::Tensor& hidden) const {
  return model_.logits(hidden).to(at::kCPU, at::kFloat).contiguous();
}

}  // namespace fpdist::generate
