#pragma once
// Tests: what tests/golden/check_export.py holds against Transformers.

#include <ATen/core/grad_mode.h>

#include <optional>
#include <string>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"
#include "src/data/virtual_tokens.hpp"
#include "tests/model/small_model.hpp"

namespace fpdist::test {

/// Token ids and our logits (or scores) of one sample, beside an export that is called `folder`; behind virtual tokens
/// whose ids follow the vocabulary.
inline void write_logits(model::Transformer& model, Head head, const std::string& folder, int64_t virtual_tokens = 0) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back(i * 7 % 60);
  const data::Group group{.sample = {sample_of(ids)}, .margin = std::nullopt};
  const data::VirtualTokens ahead{.first_id = static_cast<int32_t>(model.config().vocab_size), .count = virtual_tokens};
  const std::vector<data::Sample> behind = data::behind(ahead, {&group, 1}, 0).front().sample;
  const auto [rows, head_rows] = parallel::make_pack_tensors(layout_of(behind, true)).slice[0];
  const at::NoGradGuard no_grad;
  const at::Tensor hidden = model.forward(0, rows, {});
  const at::Tensor logits = head == Head::kScore ? model.scores(hidden, head_rows) : model.logits(hidden);
  checkpoint::write_safetensors(
      folder + ".logits.safetensors",
      {{"ids", at::tensor(at::ArrayRef<int32_t>(ids), at::kInt).to(at::kLong)}, {"logits", logits}});
}

}  // namespace fpdist::test
