#pragma once
// Tests: the two samples of the golden values, their rows in a pack, and the loss whose gradients these hold.

#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"
#include "tests/model/small_model.hpp"

namespace fpdist::test {

inline std::vector<data::Sample> golden_samples(const checkpoint::SafetensorsFile& expected) {
  std::vector<data::Sample> samples;
  for (const char* name : {"ids.0", "ids.1"}) {
    const at::Tensor ids = expected.tensor(name).to(at::kInt);
    samples.push_back(sample_of({ids.const_data_ptr<int32_t>(), ids.const_data_ptr<int32_t>() + ids.numel()}));
  }
  return samples;
}

/// Rows of sample `s` in a pack of both: alone they follow each other, shared ones are in both.
inline at::Tensor rows_of_sample(const prefix::TreeLayout& layout, size_t s) {
  const int32_t last = layout.sample[s].last_row;
  std::vector<int64_t> rows;
  for (int32_t row = 0; row <= last; ++row)
    if (last < layout.subtree_end[row]) rows.push_back(row);
  return at::tensor(rows, at::kLong);
}

/// Forward and backward of the golden loss: (s + 1) / (t + 1) times the log-prob of token t of sample s.
inline void golden_backward(model::Transformer& model, const prefix::TreeLayout& layout) {
  std::vector<double> weights;
  for (int64_t e = 0; e < layout.edges(); ++e)
    weights.push_back((layout.edge_sample[e] + 1.0) / (layout.edge_index[e] + 1.0));
  const auto [slices, places] = parallel::make_pack_tensors(layout);
  const at::Tensor hidden = model.forward(0, slices[0].rows, {});
  const at::Tensor logp = model.logprobs(hidden, slices[0].head).logp.index_select(0, places.edge_score);
  (logp * at::tensor(weights, at::kDouble)).sum().backward();
  model.backward_input(0, hidden.grad());
}

}  // namespace fpdist::test
