#include <ATen/ops/empty.h>

#include "fpdist/parallel/stage.hpp"

namespace fpdist::parallel {
namespace {

template <typename To, typename From>
at::Tensor to_tensor(const std::vector<From>& values, at::ScalarType dtype, at::Device device) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions(dtype));
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<To>());
  return tensor.to(device);
}

}  // namespace

PackTensors make_pack_tensors(const prefix::TreeLayout& layout, at::Device device) {
  const auto int64 = [&](const std::vector<int32_t>& values) { return to_tensor<int64_t>(values, at::kLong, device); };
  const auto int32 = [&](const std::vector<int32_t>& values) { return to_tensor<int32_t>(values, at::kInt, device); };
  std::vector<int32_t> row(layout.token.size()), head_row, score_head(layout.score_row.size()), last_row;
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<int32_t>(i);
  for (size_t s = 0; s < layout.score_row.size(); ++s) {  // score rows ascend: equal neighbours share a head row
    if (head_row.empty() || head_row.back() != layout.score_row[s]) head_row.push_back(layout.score_row[s]);
    score_head[s] = static_cast<int32_t>(head_row.size()) - 1;
  }
  for (const auto& sample : layout.sample) last_row.push_back(sample.last_row);
  return {.token = int64(layout.token),
          .depth = int64(layout.depth),
          .row = int32(row),
          .subtree_end = int32(layout.subtree_end),
          .head_row = int64(head_row),
          .score_row = int64(score_head),
          .score_target = int64(layout.score_target),
          .edge_score = int64(layout.edge_score),
          .edge_sample = int64(layout.edge_sample),
          .last_row = int64(last_row),
          .samples = static_cast<int64_t>(layout.sample.size())};
}

}  // namespace fpdist::parallel
