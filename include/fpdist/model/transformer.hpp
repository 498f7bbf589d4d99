#pragma once
// model: a decoder-only transformer (Llama, Qwen2, Qwen3) over a pack's rows. Its parameters carry Hugging Face names.

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "fpdist/model/config.hpp"
#include "fpdist/model/options.hpp"
#include "fpdist/ops/functional.hpp"
#include "fpdist/parallel/stage.hpp"

namespace fpdist::model {

enum class Head { kLanguageModel, kScore };

class Transformer final : public parallel::Stage {
 public:
  /// Allocates uninitialised weights on `device`. `trainable` false: a frozen model (reference), no main grads.
  Transformer(ModelConfig config, at::ScalarType dtype, at::Device device, Head head, bool trainable,
              bool gradient_checkpointing);

  const ModelConfig& config() const;
  /// In Hugging Face order: embedding, blocks, norm, head (absent when tied).
  const std::vector<ops::ParameterPtr>& parameters() const;
  /// Fills every weight as Transformers would: normal(0, initializer_range), norms 1, biases 0, by (seed, name, element),
  /// so the same seed gives the same weights on any mesh.
  void initialize(uint64_t seed);

  // Stage: embedding, blocks and final norm.
  at::Tensor forward(int pack, const parallel::PackTensors& tensors, const at::Tensor& input) override;
  at::Tensor backward_input(int pack, const at::Tensor& grad_output) override;
  void backward_weight(int pack) override;

  /// Log-prob, entropy and argmax of the pack's scores from hidden rows [T,H] (only rows with a score reach the head).
  ops::SelectedLogprob logprobs(const at::Tensor& hidden, const parallel::PackTensors& tensors) const;
  /// Mean logit over the vocabulary for each row of hidden[head_row]: [R], not differentiable.
  at::Tensor mean_logits(const at::Tensor& hidden, const parallel::PackTensors& tensors) const;
  /// Score head: [B] in the accumulation dtype from each sample's last row; throws DataError for a sample without tokens.
  at::Tensor scores(const at::Tensor& hidden, const parallel::PackTensors& tensors) const;
  /// All logits [T,V]; for tests and small packs.
  at::Tensor logits(const at::Tensor& hidden) const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace fpdist::model
