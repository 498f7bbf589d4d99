#include "fpdist/model/transformer.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "block.hpp"
#include "fpdist/core/error.hpp"
#include "rotary_table.hpp"
#include "weights.hpp"

namespace fpdist::model {
namespace {

/// A pack between forward and backward: the whole graph, or with recomputation only the inputs of the segments
/// (blocks and the final norm).
struct InFlight {
  at::Tensor output;
  PackContext context;
  std::vector<at::Tensor> segment_input;
};

at::Tensor leaf(const at::Tensor& x) { return x.detach().set_requires_grad(true); }

}  // namespace

struct Transformer::Impl {
  Impl(ModelConfig model_config, at::TensorOptions options, Head model_head, bool is_trainable, bool recompute)
      : config(std::move(model_config)),
        head(model_head),
        trainable(is_trainable),
        checkpointing(recompute),
        weights(Weights::allocate(config, options, head, trainable)),
        inverse_frequency(inverse_frequencies(
            config.rope, config.head_dim, ops::accumulate_dtype(options.dtype().toScalarType()), options.device())) {}

  at::Tensor embed(const PackContext& context) const {
    return ops::embedding(context.tensors.token, *weights.embedding);
  }
  at::Tensor norm(const at::Tensor& x) const { return ops::rms_norm(x, *weights.norm, config.rms_norm_eps); }
  at::Tensor segment(size_t index, const at::Tensor& x, const PackContext& context) const {
    return index < weights.block.size() ? block_forward(x, weights.block[index], config, context) : norm(x);
  }
  size_t segments() const { return weights.block.size() + 1; }

  at::Tensor run(const PackContext& context, std::vector<at::Tensor>* inputs = nullptr) const {
    at::Tensor x = embed(context);
    for (size_t index = 0; index < segments(); ++index) {
      if (inputs != nullptr) inputs->push_back(x);
      x = segment(index, x, context);
    }
    return x;
  }

  /// Segment by segment from the back: forward again with a graph, then through it. The same operations on the same
  /// values as without recomputation, so the same bits.
  void recompute_backward(InFlight& pack, at::Tensor grad) const {
    for (size_t index = segments(); index-- > 0;) {
      const at::Tensor input = leaf(std::exchange(pack.segment_input[index], at::Tensor()));
      const at::Tensor output = segment(index, input, pack.context);
      torch::autograd::backward({output}, {grad});
      grad = input.grad();
    }
    torch::autograd::backward({embed(pack.context)}, {grad});
  }

  ModelConfig config;
  Head head;
  bool trainable, checkpointing;
  Weights weights;
  at::Tensor inverse_frequency;
  std::unordered_map<int, InFlight> in_flight;
};

Transformer::Transformer(ModelConfig config, at::ScalarType dtype, at::Device device, Head head, bool trainable,
                         bool gradient_checkpointing)
    : impl_(std::make_unique<Impl>(std::move(config), at::TensorOptions(dtype).device(device), head, trainable,
                                   gradient_checkpointing)) {}
Transformer::~Transformer() = default;
Transformer::Transformer(Transformer&&) noexcept = default;
Transformer& Transformer::operator=(Transformer&&) noexcept = default;

const ModelConfig& Transformer::config() const { return impl_->config; }
const std::vector<ops::ParameterPtr>& Transformer::parameters() const { return impl_->weights.all; }

void Transformer::initialize(uint64_t seed) {
  for (const auto& parameter : impl_->weights.all) model::initialize(*parameter, impl_->config.initializer_range, seed);
}

void Transformer::initialize(uint64_t seed, std::string_view name) {
  const auto& all = impl_->weights.all;
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& parameter) { return parameter->name == name; });
  check(found != all.end(), "the model has no parameter \"", name, "\"");
  model::initialize(**found, impl_->config.initializer_range, seed);
}

at::Tensor Transformer::forward(int pack, const parallel::PackTensors& tensors, const at::Tensor& input) {
  check(!input.defined(), "this model is the first and only stage: it takes no input rows");
  check(impl_->in_flight.count(pack) == 0, "pack ", pack,
        " is already in flight: call backward_input or discard first");
  InFlight kept{
      .output = {}, .context = {tensors, rotary_table(impl_->inverse_frequency, tensors.depth)}, .segment_input = {}};
  if (!impl_->trainable || !at::GradMode::is_enabled()) {
    const at::NoGradGuard no_grad;
    return impl_->run(kept.context);
  }
  if (impl_->checkpointing) {
    const at::NoGradGuard no_grad;
    kept.output = impl_->run(kept.context, &kept.segment_input);
  } else {
    kept.output = impl_->run(kept.context);
  }
  const at::Tensor rows = leaf(kept.output);
  if (impl_->checkpointing) kept.output = at::Tensor();
  impl_->in_flight.emplace(pack, std::move(kept));
  return rows;
}

at::Tensor Transformer::backward_input(int pack, const at::Tensor& grad_output) {
  auto entry = impl_->in_flight.extract(pack);
  check(!entry.empty(), "pack ", pack,
        " is not in flight: forward ran without gradients, or backward_input ran already");
  check(grad_output.defined(), "pack ", pack, ": no gradient arrived at the hidden rows: did the loss use them?");
  const at::AutoGradMode with_graph(true);
  if (impl_->checkpointing) {
    impl_->recompute_backward(entry.mapped(), grad_output);
  } else {
    torch::autograd::backward({entry.mapped().output}, {grad_output});
  }
  return {};
}

void Transformer::backward_weight(int) {}

void Transformer::discard(int pack) { impl_->in_flight.erase(pack); }

ops::SelectedLogprob Transformer::logprobs(const at::Tensor& hidden, const parallel::PackTensors& tensors) const {
  check(impl_->head == Head::kLanguageModel, "a reward model has no language model head");
  const at::Tensor rows = hidden.index_select(0, tensors.head_row);
  return ops::selected_logprob(rows, *impl_->weights.head, tensors.score_row, tensors.score_target);
}

at::Tensor Transformer::mean_logits(const at::Tensor& hidden, const parallel::PackTensors& tensors) const {
  check(impl_->head == Head::kLanguageModel, "a reward model has no language model head");
  const at::NoGradGuard no_grad;
  const auto dtype = ops::accumulate_dtype(hidden.scalar_type());
  const at::Tensor mean_weight = at::mean(impl_->weights.head->value, {0}, /*keepdim=*/false, dtype);
  return at::mv(hidden.index_select(0, tensors.head_row).to(dtype), mean_weight);
}

at::Tensor Transformer::scores(const at::Tensor& hidden, const parallel::PackTensors& tensors) const {
  check(impl_->head == Head::kScore, "a language model has no score head");
  check<DataError>(!(tensors.last_row < 0).any().item<bool>(),
                   "a sample without tokens has no score: a reward model needs ",
                   "at least one token in every prompt and completion together");
  const at::Tensor last = hidden.index_select(0, tensors.last_row);
  return ops::linear(last, *impl_->weights.head).squeeze(1).to(ops::accumulate_dtype(hidden.scalar_type()));
}

at::Tensor Transformer::logits(const at::Tensor& hidden) const {
  check(impl_->head == Head::kLanguageModel, "a reward model has no language model head");
  const at::NoGradGuard no_grad;
  const auto dtype = ops::accumulate_dtype(hidden.scalar_type());
  return at::linear(hidden.to(dtype), impl_->weights.head->value.to(dtype));
}

}  // namespace fpdist::model
