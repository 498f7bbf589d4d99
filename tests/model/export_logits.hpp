#pragma once
// Tests: what tests/golden/check_export.py holds against Transformers.

#include <ATen/core/grad_mode.h>

#include <string>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"
#include "tests/model/small_model.hpp"

namespace fpdist::test {

/// Token ids and our logits (or scores) of one sample, beside an export that is called `folder`.
inline void write_logits(model::Transformer& model, Head head, const std::string& folder) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back(i * 7 % 60);
  const auto [rows, head_rows] = parallel::make_pack_tensors(layout_of({sample_of(ids)}, true)).slice[0];
  const at::NoGradGuard no_grad;
  const at::Tensor hidden = model.forward(0, rows, {});
  const at::Tensor logits = head == Head::kScore ? model.scores(hidden, head_rows) : model.logits(hidden);
  checkpoint::write_safetensors(folder + ".logits.safetensors", {{"ids", rows.token}, {"logits", logits}});
}

}  // namespace fpdist::test
