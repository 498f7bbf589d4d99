#pragma once
// model: a decoder-only transformer (Llama, Qwen2, Qwen3) over a pack's rows. Its parameters carry Hugging Face names.
// One Transformer is one Stage: embedding, all blocks, final norm; the head is applied by logprobs() or scores().

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "fpdist/model/config.hpp"
#include "fpdist/model/options.hpp"
#include "fpdist/ops/functional.hpp"
#include "fpdist/ops/parameter.hpp"
#include "fpdist/parallel/stage.hpp"

namespace fpdist::model {

enum class Head { kLanguageModel, kScore };

/// Name of a reward model's score head [1,H]; a base model's directory lacks it.
inline constexpr const char* kScoreWeight = "score.weight";

class Transformer final : public parallel::Stage {
 public:
  /// Allocates uninitialised weights on `device`. `trainable` false: a frozen model (reference), no main grads.
  Transformer(ModelConfig config, at::ScalarType dtype, at::Device device, Head head, bool trainable,
              bool gradient_checkpointing);
  ~Transformer() override;
  Transformer(Transformer&&) noexcept;
  Transformer& operator=(Transformer&&) noexcept;

  const ModelConfig& config() const;
  /// In Hugging Face order: embedding, blocks, norm, head (absent when tied). Each value may be replaced by a view of
  /// the same shape (ops::FlatParameters does) between packs.
  const std::vector<ops::ParameterPtr>& parameters() const;
  /// Fills every weight as Transformers would: normal(0, initializer_range), norms 1, biases 0, by (seed, name,
  /// element), so the same seed gives the same weights on any mesh (in another dtype: the same draws, rounded).
  void initialize(uint64_t seed);
  /// The same for one parameter, e.g. kScoreWeight; throws ShapeError for an unknown name.
  void initialize(uint64_t seed, std::string_view name);

  // Stage: embedding, blocks and final norm. `input` must be undefined: this is the only stage.
  /// Keeps what backward_input needs, unless the model is frozen or gradients are switched off (at::NoGradGuard): then
  /// the rows returned require no gradient. Throws ShapeError when `pack` is already in flight.
  at::Tensor forward(int pack, const parallel::PackTensors& tensors, const at::Tensor& input) override;
  /// Adds dW to the main grads (norm weights: to value.grad(), see ops::FlatParameters::fold_gradients) and forgets the
  /// pack. Throws ShapeError for a pack that is not in flight.
  at::Tensor backward_input(int pack, const at::Tensor& grad_output) override;
  void backward_weight(int pack) override;
  /// Forgets a pack that will have no backward.
  void discard(int pack);

  /// Log-prob, entropy and argmax of the pack's scores from hidden rows [T,H] (only rows with a score reach the head).
  ops::SelectedLogprob logprobs(const at::Tensor& hidden, const parallel::PackTensors& tensors) const;
  /// Mean logit over the vocabulary for each row of hidden[head_row]: [R] in the accumulation dtype, not
  /// differentiable.
  at::Tensor mean_logits(const at::Tensor& hidden, const parallel::PackTensors& tensors) const;
  /// Score head: [B] in the accumulation dtype from each sample's last row; throws DataError for a sample without
  /// tokens.
  at::Tensor scores(const at::Tensor& hidden, const parallel::PackTensors& tensors) const;
  /// All logits [T,V] in the accumulation dtype, not differentiable; for tests and small packs.
  at::Tensor logits(const at::Tensor& hidden) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fpdist::model
