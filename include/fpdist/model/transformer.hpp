#pragma once
// model: a decoder-only transformer, of layers as arch::Model lists them, over a pack's rows, or a run of its layers.
// Its parameters carry Hugging Face names. A Transformer is a Stage: the first run embeds, the last applies the final
// norm and has the head, which logprobs() or scores() apply. With a tp axis every rank holds its slices of the weights
// and, between the linears, its run of the rows; all calls that compute are then collective over that axis.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/head.hpp"
#include "fpdist/model/kept_keys.hpp"
#include "fpdist/model/options.hpp"
#include "fpdist/model/stage_layers.hpp"
#include "fpdist/ops/functional.hpp"
#include "fpdist/ops/parameter.hpp"
#include "fpdist/parallel/stage.hpp"

namespace fpdist::comm {
class Communicator;
}

namespace fpdist::model {

using arch::kEmbeddingWeight, arch::kScoreWeight;

/// What decides a Transformer beside its shape.
struct TransformerOptions {
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  Head head = Head::kLanguageModel;
  /// false: a frozen model (reference), no main grads.
  bool trainable = true;
  /// Keep only each segment's input (blocks, final norm) and recompute the segment in backward.
  bool gradient_checkpointing = false;
  /// backward_input leaves the linears' weight gradients to backward_weight.
  bool defer_weight_gradients = false;
  StageLayers layers = {};
  /// logprobs() divides logits by it.
  double temperature = 1.0;
  /// The tensor-parallel axis; null: one rank. Must outlive the model.
  comm::Communicator* tp = nullptr;
};

class Transformer final : public parallel::Stage {
 public:
  /// Allocates uninitialised weights. Not collective. Throws ConfigError when tp does not fit the heads.
  Transformer(arch::Model config, const TransformerOptions& options);
  ~Transformer() override;
  Transformer(Transformer&&) noexcept;
  Transformer& operator=(Transformer&&) noexcept;

  const arch::Model& config() const;
  const TransformerOptions& options() const;
  /// In Hugging Face order: embedding, blocks, norm, head (absent when tied and here already). Each value may be
  /// replaced by a view of the same shape (ops::FlatParameters does) between packs.
  const std::vector<ops::ParameterPtr>& parameters() const;
  /// Those that have main grads: all, beside an adapter its own and a score head, of a frozen model none.
  const std::vector<ops::ParameterPtr>& trained() const;
  /// A model that computes the same and is not trained, with or without the adapter: frozen weights are this model's
  /// own, of trained ones it has copies. Not collective.
  std::unique_ptr<Transformer> frozen(bool keeps_adapter = true) const;
  /// Fills every weight as Transformers would (normal(0, initializer_range), norms 1, biases 0; of an adapter as
  /// arch::Adapter::Init says) by (seed, name, element), so the same seed gives the same weights on any mesh (in
  /// another dtype: the same draws, rounded).
  void initialize(uint64_t seed);
  /// The same for one parameter, e.g. kScoreWeight; throws ShapeError for an unknown name.
  void initialize(uint64_t seed, std::string_view name);
  /// Collective over tp, once the frozen weights are there and before the first forward: DoRA's magnitudes begin as the
  /// lengths of the weights' rows. Nothing without DoRA.
  void begin_magnitudes();
  /// Packs that go forward from here on drop what the adapter's lora_dropout says, by masks that `masks` tells apart
  /// from those of other steps; none, as it begins: nothing is dropped.
  void set_masks(std::optional<uint64_t> masks);
  /// Called in backward with the trained parameters of each segment whose gradients this pack has completed.
  void set_hook(std::function<void(std::span<const ops::ParameterPtr>)> hook);
  /// Called with the trained parameters of the embedding, a block, the final norm or the head ahead of every
  /// computation that reads their values: the place to wait for values that are still on their way
  /// (parallel::ZeroReducer::need).
  void set_use_hook(std::function<void(std::span<const ops::ParameterPtr>)> hook);

  /// Called in forward with the rows that come out of each module: 0 model.embed_tokens, 1 model.layers.0, ...,
  /// model.norm behind the last layer of the whole model.
  void set_output_hook(std::function<void(int64_t place, std::string_view module, const at::Tensor& rows)> hook);

  /// Keeps what backward_input needs, unless the model is frozen or gradients are switched off (at::NoGradGuard): then
  /// the rows returned require no gradient. Throws ShapeError when `pack` is already in flight.
  at::Tensor forward(int pack, const parallel::RowsHere& rows, const at::Tensor& input) override;
  /// Adds dW to the main grads (what plain torch code left: to value.grad(), see ops::FlatParameters::fold_gradients)
  /// and forgets the pack. Throws ShapeError for a pack that is not in flight.
  at::Tensor backward_input(int pack, int slice, const at::Tensor& grad_output) override;
  at::Tensor backward_input(int pack, const at::Tensor& grad_output) { return backward_input(pack, 0, grad_output); }
  void backward_weight(int pack, int slice = 0) override;
  /// Forgets a pack, all its slices, that will have no (or no further) backward.
  void discard(int pack);

  /// Zeros in `places` places of this run's layers, for this tp rank's heads.
  KeptKeys make_kept_keys(int64_t places) const;
  /// The rows that come out of the last segment, without a backward to come: further rows behind those in `kept`, whose
  /// places their keys and values take. rows.mask: the places as row numbers, k_row and k_end of all R. `input` as
  /// forward has it. The last run gives all rows [n,H] on every tp rank, others the own run of them.
  at::Tensor extend(const parallel::RowsHere& rows, KeptKeys& kept, const at::Tensor& input) const;

  /// Until it is called with false, products without gradients read the weights of layers and head packed, as they are
  /// now (ops::Parameter::packed): for many passes of few rows between two changes of them. A second copy of float32
  /// weights on the CPU, nothing elsewhere. `by_parts`: as products need them whose bits for a row are that row's alone
  /// (KeptKeys::batch_invariant). Not collective.
  void set_packed(bool packed, bool by_parts = false) const;

  /// First run only: embeddings [n,H] of all rows, without a backward to come. Collective over tp.
  at::Tensor embeddings(const parallel::RowsHere& rows) const;

  // Last run only. `hidden` [n_t,H]: the own run of rows that forward returned.
  /// Log-prob [S_c], entropy and argmax [R] of the scores of this cp rank (only rows with a score reach the head); the
  /// same on all tp ranks. Of a head of classes these are the two classes in the place of tokens. `keeps_logits` as
  /// ops::selected_logprob has it.
  ops::SelectedLogprob logprobs(const at::Tensor& hidden, const parallel::HeadRows& head,
                                bool keeps_logits = false) const;
  /// [H] the mean of the head's weight rows over the vocabulary, as they are now: what mean_logits() needs of them. A
  /// pass over the whole head, so one for all packs between two changes of the weights.
  at::Tensor mean_head_row() const;
  /// Mean logit over the vocabulary for each of the R rows, in the accumulation dtype, not differentiable.
  at::Tensor mean_logits(const at::Tensor& hidden, const parallel::HeadRows& head, const at::Tensor& mean_row) const;
  /// KL(base || own) over the vocabulary for each of the R rows, in the accumulation dtype: of what `base`, the same
  /// run of another model, says of its rows `base_hidden`. Differentiable but for the base.
  at::Tensor base_kl(const at::Tensor& hidden, const Transformer& base, const at::Tensor& base_hidden,
                     const parallel::HeadRows& head) const;
  /// Score head: [B_t] in the accumulation dtype for the samples whose last row is here; throws DataError for a sample
  /// without tokens. Not collective.
  at::Tensor scores(const at::Tensor& hidden, const parallel::HeadRows& head) const;
  /// All logits [n,V] of rows [n,H], the same rows on all tp ranks and so the logits; in the accumulation dtype, not
  /// differentiable.
  at::Tensor logits(const at::Tensor& hidden) const;
  /// The part of them that this tp rank's slice of the vocabulary gives, [n,V_t] (parallel::split_evenly); all of them
  /// without tp. Not collective.
  at::Tensor own_logits(const at::Tensor& hidden) const;

 private:
  struct Impl;
  Transformer();
  std::unique_ptr<Impl> impl_;
};

}  // namespace fpdist::model
