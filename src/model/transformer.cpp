#include "fpdist/model/transformer.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/weight_gradient_queue.hpp"
#include "src/core/index.hpp"
#include "src/model/blocks/block.hpp"
#include "src/model/blocks/rotary_table.hpp"
#include "src/model/weights.hpp"
#include "src/ops/batch_invariant.hpp"
#include "src/ops/mean_logits.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::model {
namespace {

/// A block or the final norm of one pack: its input, a leaf, and its output with the graph between them (undefined when
/// the segment is recomputed).
struct Segment {
  at::Tensor input, output;
};

/// A pack between forward and backward.
struct InFlight {
  PackContext context;
  at::Tensor embedded;  // first run only; undefined when it is recomputed
  at::Tensor prefix;    // hidden units of a prefix that is projected, with their graph
  std::vector<Segment> segment;
};

at::Tensor leaf(const at::Tensor& x) { return x.detach().set_requires_grad(true); }

/// Distinct rows of hidden ones; torch's gradient of a selection refuses to be one of no rows at all off the CPU.
at::Tensor pick_rows(const at::Tensor& hidden, const at::Tensor& rows) {
  return rows.numel() == 0 ? hidden.narrow(0, 0, 0) : hidden.index_select(0, rows);
}

int64_t queue_key(int pack, int slice) { return (int64_t{pack} << 32) | slice; }

}  // namespace

struct Transformer::Impl {
  Impl(arch::Model model_config, const TransformerOptions& model_options)
      : Impl(model_config, model_options,
             RunWeights::allocate(model_config, at::TensorOptions(model_options.dtype).device(model_options.device),
                                  model_options.head, model_options.trainable, model_options.layers,
                                  shard_of(model_options))) {}
  Impl(arch::Model model_config, const TransformerOptions& model_options, RunWeights model_weights)
      : config(std::move(model_config)),
        options(model_options),
        weights(std::move(model_weights)),
        layers(std::span(config.layers).subspan(index(options.layers.first), weights.block.size())),
        rotary(layers, ops::accumulate_dtype(options.dtype), options.device) {
    if (options.tp != nullptr && options.tp->size() == 1) options.tp = nullptr;
    trained = trained_of(weights.all);
    if (options.trainable && options.defer_weight_gradients) {
      queue = c10::make_intrusive<ops::WeightGradientQueue>();
      for (const auto& parameter : trained) parameter->queue = queue;
    }
    for (BlockWeights& block : weights.block) {
      std::vector<ops::ParameterPtr> of_block;
      for (const ops::ParameterPtr* parameter : parameters_of(block)) of_block.push_back(*parameter);
      segment_parameters.push_back(trained_of(of_block));
    }
    std::vector<ops::ParameterPtr> of_mlp{weights.prefix_embedding, weights.prefix_hidden.weight,
                                          weights.prefix_hidden.bias, weights.prefix_made.weight,
                                          weights.prefix_made.bias};
    if (weights.norm) segment_parameters.push_back(trained_of({weights.norm}));
    embedding_parameters = trained_of({weights.embedding, weights.prompt});
    (weights.prefix_made.weight ? embedding_parameters : prefix_parameters) = trained_of(std::move(of_mlp));
    if (weights.head != weights.embedding) head_parameters = trained_of({weights.head, weights.head_bias});
    if (embeds() && embedding_parameters.empty())
      while (lowest < segments() && segment_parameters[lowest].empty()) ++lowest;
  }

  static TensorShard shard_of(const TransformerOptions& options) {
    return options.tp == nullptr ? TensorShard{} : TensorShard{options.tp->rank(), options.tp->size()};
  }
  static std::vector<ops::ParameterPtr> trained_of(std::vector<ops::ParameterPtr> parameters) {
    std::erase_if(parameters, [](const auto& parameter) { return !parameter || !parameter->main_grad.defined(); });
    return parameters;
  }

  void initialize(ops::Parameter& parameter, uint64_t seed) const {
    if (arch::is_of_adapter(parameter.name))
      initialize_adapter(parameter, config.adapter, seed);
    else if (parameter.quantized)
      initialize_quantized(parameter, config.initializer_range, seed, config.quantization->nested);
    else
      model::initialize(parameter, config.initializer_range, seed);
  }
  /// Lengths of the frozen weights' rows, where DoRA trains them.
  void measure() {
    for (size_t index = 0; index < weights.block.size(); ++index)
      for (Linear* linear : linears_of(weights.block[index]))
        if (linear->magnitude) measure(*linear, linear->weight->sharding.dim == 1);
  }
  void measure(Linear& linear, bool is_cut_inside) const {
    linear.squares = squares_of(linear);
    if (is_cut_inside && options.tp != nullptr) options.tp->all_reduce(linear.squares);
    linear.magnitude->value.detach().copy_(linear.squares.sqrt());
  }
  void use(std::span<const ops::ParameterPtr> parameters) const {
    if (use_hook) use_hook(parameters);
  }
  at::Tensor embed_tokens(const at::Tensor& token, const PackContext& context) const {
    return options.tp == nullptr ? ops::embedding(token, *weights.embedding)
                                 : parallel::embedding(token, *weights.embedding, *options.tp, context.rows.shard_rows);
  }
  /// Virtual tokens have the ids behind the vocabulary.
  at::Tensor embed(const PackContext& context) const {
    use(embedding_parameters);
    const at::Tensor& token = context.rows.token;
    if (config.adapter.prefix.row_tokens() == 0) return embed_tokens(token, context);
    const at::Tensor rows = embed_tokens(token.clamp_max(config.vocab_size - 1), context);
    const bool are_made = weights.prefix_made.weight && context.rows.prefix_context.defined();
    if (!weights.prompt && !are_made) return rows;  // blocks have keys in their place, or there are none here
    const at::Tensor place = context.own(token) - config.vocab_size, own = place.clamp_min(0);
    const at::Tensor virtual_rows =
        are_made ? made_embeddings(context).index_select(0, own) : ops::embedding(own, *weights.prompt);
    return at::where(place.ge(0).unsqueeze(1), virtual_rows.to(rows.scalar_type()), rows);
  }
  /// [C P, H] of all virtual tokens that contexts make, prefix by prefix.
  at::Tensor made_embeddings(const PackContext& context) const {
    const Linear& made = weights.prefix_made;
    return ops::linear(prefix_units(context.rows), *made.weight, made.bias.get()).view({-1, config.hidden_size});
  }
  at::Tensor run(size_t index, const at::Tensor& x, const PackContext& context) const {
    use(segment_parameters[index]);
    return index < weights.block.size() ? block_forward(x, weights.block[index], layers[index], context, index)
                                        : ops::rms_norm(x, *weights.norm, config.norm_eps);
  }
  /// Behind the embedding (segment -1) or a segment.
  void came_out(int64_t segment, const at::Tensor& rows) const {
    if (!output_hook) return;
    const auto layers_here = static_cast<int64_t>(weights.block.size());
    const int64_t layer = options.layers.first + segment;
    if (segment < 0)
      output_hook(0, "model.embed_tokens", rows);
    else if (segment < layers_here)
      output_hook(layer + 1, text("model.layers.", layer), rows);
    else
      output_hook(config.layer_count() + 1, "model.norm", rows);
  }
  size_t segments() const { return segment_parameters.size(); }
  bool embeds() const { return options.layers.embedding; }
  /// Nothing under the segment wants a gradient.
  bool is_source(size_t index) const { return index == lowest && embeds() && embedding_parameters.empty(); }

  /// Without a backward to come.
  at::Tensor run_all(const PackContext& context, const at::Tensor& input) const {
    const at::NoGradGuard no_grad;
    at::Tensor x = embeds() ? embed(context) : input;
    if (embeds()) came_out(-1, x);
    for (size_t index = 0; index < segments(); ++index) {
      x = run(index, x, context);
      came_out(static_cast<int64_t>(index), x);
    }
    return x;
  }
  /// Segment by segment, each a graph of its own, or with recomputation none at all. What lies under all that is
  /// trained has no backward.
  at::Tensor run_kept(InFlight& pack, const at::Tensor& input) const {
    const at::AutoGradMode with_graph(!options.gradient_checkpointing);
    at::Tensor x = input;
    if (embeds()) {
      x = embed(pack.context);
      came_out(-1, x);
      if (!options.gradient_checkpointing && !embedding_parameters.empty()) pack.embedded = x;
    }
    for (size_t index = 0; index < segments(); ++index) {
      Segment segment;
      if (index >= lowest) segment.input = is_source(index) ? x.detach() : leaf(x);
      {
        const at::AutoGradMode below(index >= lowest && at::GradMode::is_enabled());
        x = run(index, index >= lowest ? segment.input : x, pack.context);
      }
      came_out(static_cast<int64_t>(index), x);
      if (!options.gradient_checkpointing && index >= lowest) segment.output = x;
      pack.segment.push_back(std::move(segment));
    }
    return leaf(x);
  }
  /// From the back; recomputed segments run the same operations on the same values, so the same bits.
  at::Tensor run_back(InFlight& pack, at::Tensor grad) const {
    for (size_t index = segments(); index-- > lowest;) {
      const Segment segment = std::exchange(pack.segment[index], {});
      const at::Tensor output = segment.output.defined() ? segment.output : run(index, segment.input, pack.context);
      if (output.requires_grad()) torch::autograd::backward({output}, {grad});  // a pack of no prefix has none
      grad = segment.input.grad();
      if (hook && !queue) hook(segment_parameters[index]);
    }
    run_prefix_back(pack);
    if (!embeds()) return grad;
    if (embedding_parameters.empty()) return {};
    const at::Tensor embedded = pack.embedded.defined() ? pack.embedded : embed(pack.context);
    // Of no virtual token where nothing else is trained.
    if (embedded.requires_grad()) torch::autograd::backward({embedded}, {grad});
    if (hook && !queue) hook(embedding_parameters);
    return {};
  }
  /// What all blocks of a pack, or further rows of one, have in common. A prefix takes the first positions.
  PackContext context_of(const parallel::RowsHere& rows, std::vector<parallel::ResidentKeys>* keys,
                         KeptKeys* kept = nullptr) const {
    const int64_t prefix = config.adapter.prefix.key_tokens();
    PackContext context{.rows = rows,
                        .rotary = rotary.tables(prefix > 0 ? rows.depth + prefix : rows.depth),
                        .tp = options.tp,
                        .masks = masks,
                        .keys = keys,
                        .kept = kept};
    const int64_t queries = rows.exchange ? rows.exchange->queries() : rows.depth.size(0);
    const arch::Prefix& trained = config.adapter.prefix;
    if (prefix > 0) context.prefix = ops::PrefixCalls::make(prefix, queries, options.device, trained.frozen);
    if (trained.trains != arch::Prefix::Trains::kKeys) return context;
    if (trained.context_dim > 0 && !rows.prefix_context.defined()) return context;
    if (trained.row_tokens() > 0) context.prefix_place = rows.token - config.vocab_size;
    if (weights.prefix_hidden.weight) context.prefix_hidden = prefix_units(rows);
    return context;
  }
  /// tanh of a linear in the embeddings of a prefix that is projected, [P, hidden] of all prefixes, or in the contexts
  /// of `rows`, [C, hidden].
  at::Tensor prefix_units(const parallel::RowsHere& rows) const {
    use(prefix_parameters);
    const Linear& hidden = weights.prefix_hidden;
    const at::Tensor from =
        weights.prefix_embedding ? embeddings_of_prefix() : rows.prefix_context.to(hidden.weight->value.scalar_type());
    return at::tanh(ops::linear(from, *hidden.weight, hidden.bias.get()));
  }
  at::Tensor embeddings_of_prefix() const {
    const at::TensorOptions places = at::TensorOptions(at::kLong).device(options.device);
    return ops::embedding(at::arange(config.adapter.prefix.all_tokens(), places), *weights.prefix_embedding);
  }
  /// Behind the last backward of the blocks.
  void run_prefix_back(const InFlight& pack) const {
    if (prefix_parameters.empty()) return;
    if (pack.prefix.defined()) torch::autograd::backward({pack.prefix}, {pack.context.prefix_hidden.grad()});
    if (hook && !queue) hook(prefix_parameters);
  }
  std::vector<parallel::ResidentKeys>* keys_of(int pack, const parallel::RowsHere& rows) {
    if (rows.slices == 1) return nullptr;
    auto& keys = resident_keys[pack];
    keys.resize(weights.block.size());
    return &keys;
  }
  at::Tensor head_rows(const at::Tensor& hidden, const parallel::HeadRows& head) const {
    const at::Tensor own = pick_rows(hidden, head.row);
    return options.tp == nullptr ? own : parallel::gather_rows(own, *options.tp, head.count);
  }
  /// Where the head is whole on every tp rank each computes the classes of its own run of rows; the other runs' come as
  /// numbers, whose gradients are those ranks'.
  ops::SelectedLogprob class_logprobs(const at::Tensor& hidden, const parallel::HeadRows& head) const {
    const at::Tensor rows = pick_rows(hidden, head.row);
    at::Tensor logits = ops::linear(rows.to(weights.head->value.scalar_type()), *weights.head, weights.head_bias.get())
                            .to(ops::accumulate_dtype(hidden.scalar_type()));
    if (options.tp != nullptr) {
      const at::Tensor all = parallel::gather_rows(logits.detach(), *options.tp, head.count);
      const auto own = head.count.begin() + options.tp->rank();
      const int64_t before = std::accumulate(head.count.begin(), own, int64_t{0}), behind = before + *own;
      logits = at::cat({all.narrow(0, 0, before), logits, all.narrow(0, behind, all.size(0) - behind)});
    }
    const at::Tensor logp = at::log_softmax(logits, 1);
    return {.logp = logp.index_select(0, head.score_row).gather(1, head.score_target.unsqueeze(1)).squeeze(1),
            .entropy = -(logp.exp() * logp).sum(1),
            .argmax = logits.argmax(1)};
  }
  /// Ahead of every use of the head.
  void use_head(Head wanted, const char* what) const {
    check(options.layers.head, what, " asked of a run of layers without the head");
    check(options.head == wanted, what, " asked of a model with another head");
    use(weights.head == weights.embedding ? embedding_parameters : head_parameters);
  }

  arch::Model config;
  TransformerOptions options;
  RunWeights weights;
  std::span<const arch::Layer> layers;  // of `config`: the blocks of this run
  LayerRotary rotary;
  c10::intrusive_ptr<ops::WeightGradientQueue> queue;              // null: nothing is deferred
  std::vector<ops::ParameterPtr> trained;                          // of weights.all
  std::vector<std::vector<ops::ParameterPtr>> segment_parameters;  // of these, as all below
  std::vector<ops::ParameterPtr> embedding_parameters;
  std::vector<ops::ParameterPtr> prefix_parameters;  // that all blocks have in common
  std::vector<ops::ParameterPtr> head_parameters;    // complete before the first segment's backward
  size_t lowest = 0;                                 // segment under which nothing is trained
  std::optional<uint64_t> masks;                     // of dropout, in packs to come
  std::function<void(std::span<const ops::ParameterPtr>)> hook, use_hook;
  std::function<void(int64_t, std::string_view, const at::Tensor&)> output_hook;
  std::map<std::pair<int, int>, InFlight> in_flight;                 // by (pack, slice)
  std::map<int, std::vector<parallel::ResidentKeys>> resident_keys;  // by pack; packs in slices only
};

Transformer::Transformer(arch::Model config, const TransformerOptions& options)
    : impl_(std::make_unique<Impl>(std::move(config), options)) {}
Transformer::Transformer() = default;
Transformer::~Transformer() = default;
Transformer::Transformer(Transformer&&) noexcept = default;
Transformer& Transformer::operator=(Transformer&&) noexcept = default;

const arch::Model& Transformer::config() const { return impl_->config; }
const TransformerOptions& Transformer::options() const { return impl_->options; }
const std::vector<ops::ParameterPtr>& Transformer::parameters() const { return impl_->weights.all; }
const std::vector<ops::ParameterPtr>& Transformer::trained() const { return impl_->trained; }
void Transformer::set_hook(std::function<void(std::span<const ops::ParameterPtr>)> hook) {
  impl_->hook = std::move(hook);
}
void Transformer::set_use_hook(std::function<void(std::span<const ops::ParameterPtr>)> hook) {
  impl_->use_hook = std::move(hook);
}

void Transformer::set_output_hook(std::function<void(int64_t, std::string_view, const at::Tensor&)> hook) {
  impl_->output_hook = std::move(hook);
}

void Transformer::initialize(uint64_t seed) {
  for (const auto& parameter : impl_->weights.all) impl_->initialize(*parameter, seed);
}

void Transformer::initialize(uint64_t seed, std::string_view name) {
  const auto& all = impl_->weights.all;
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& parameter) { return parameter->name == name; });
  check(found != all.end(), "the model has no parameter \"", name, "\"");
  impl_->initialize(**found, seed);
}

std::unique_ptr<Transformer> Transformer::frozen(bool keeps_adapter) const {
  TransformerOptions options = impl_->options;
  options.trainable = options.gradient_checkpointing = options.defer_weight_gradients = false;
  arch::Model config = impl_->config;
  if (!keeps_adapter) config.adapter = {};
  auto other = std::unique_ptr<Transformer>(new Transformer());
  other->impl_ = std::make_unique<Impl>(std::move(config), options, RunWeights::frozen(impl_->weights, keeps_adapter));
  return other;
}

void Transformer::set_masks(std::optional<uint64_t> masks) { impl_->masks = masks; }

void Transformer::begin_magnitudes() { impl_->measure(); }

at::Tensor Transformer::forward(int pack, const parallel::RowsHere& rows, const at::Tensor& input) {
  check(input.defined() != impl_->embeds(), impl_->embeds() ? "the first run of layers takes no input rows"
                                                            : "this run of layers needs the previous run's rows");
  check(impl_->in_flight.count({pack, rows.slice}) == 0, "pack ", pack,
        " is already in flight: call backward_input or discard first");
  InFlight kept{
      .context = impl_->context_of(rows, impl_->keys_of(pack, rows)), .embedded = {}, .prefix = {}, .segment = {}};
  if (!impl_->options.trainable || !at::GradMode::is_enabled()) {
    const at::Tensor hidden = impl_->run_all(kept.context, input);
    if (rows.slice + 1 == rows.slices) impl_->resident_keys.erase(pack);
    return hidden;
  }
  if (kept.context.prefix_hidden.defined())
    kept.prefix = std::exchange(kept.context.prefix_hidden, leaf(kept.context.prefix_hidden));
  const at::Tensor hidden = impl_->run_kept(kept, input);
  impl_->in_flight.emplace(std::pair(pack, rows.slice), std::move(kept));
  return hidden;
}

KeptKeys Transformer::make_kept_keys(int64_t places) const {
  const auto options = at::TensorOptions(impl_->options.dtype).device(impl_->options.device);
  KeptKeys kept;
  for (size_t index = 0; index < impl_->weights.block.size(); ++index) {
    const int64_t head_dim = impl_->layers[index].attention.head_dim;
    const int64_t heads = ops::sizes_of(*impl_->weights.block[index].k.weight)[0] / head_dim;
    for (auto* tensors : {&kept.keys, &kept.values}) tensors->push_back(at::zeros({places, heads, head_dim}, options));
  }
  return kept;
}

at::Tensor Transformer::extend(const parallel::RowsHere& rows, KeptKeys& kept, const at::Tensor& input) const {
  comm::Communicator* const tp = impl_->options.tp;
  const at::Tensor own = impl_->run_all(impl_->context_of(rows, nullptr, &kept), input);
  return impl_->options.layers.head && tp != nullptr ? parallel::gather_rows(own, *tp, rows.shard_rows) : own;
}

at::Tensor Transformer::embeddings(const parallel::RowsHere& rows) const {
  check(impl_->embeds(), "embeddings asked of a run of layers without the embedding");
  const at::NoGradGuard no_grad;
  const PackContext context = impl_->context_of(rows, nullptr);
  return context.gathered(impl_->embed(context));
}

at::Tensor Transformer::backward_input(int pack, int slice, const at::Tensor& grad_output) {
  auto entry = impl_->in_flight.extract({pack, slice});
  check(!entry.empty(), "pack ", pack,
        " is not in flight: forward ran without gradients, or backward_input ran already");
  check(grad_output.defined(), "pack ", pack, ": no gradient arrived at the hidden rows: did the loss use them?");
  const at::AutoGradMode with_graph(true);
  if (impl_->hook && !impl_->queue) impl_->hook(impl_->head_parameters);
  if (impl_->queue) impl_->queue->open(queue_key(pack, slice));
  at::Tensor grad = impl_->run_back(entry.mapped(), grad_output);
  if (impl_->queue) impl_->queue->close();
  if (slice == 0) impl_->resident_keys.erase(pack);  // slices go backward in reverse
  return grad;
}

void Transformer::backward_weight(int pack, int slice) {
  if (!impl_->queue) return;
  impl_->queue->run(queue_key(pack, slice));
  if (impl_->hook) impl_->hook(impl_->trained);
}

void Transformer::discard(int pack) {
  std::erase_if(impl_->in_flight, [&](const auto& entry) { return entry.first.first == pack; });
  impl_->resident_keys.erase(pack);
}

ops::SelectedLogprob Transformer::logprobs(const at::Tensor& hidden, const parallel::HeadRows& head,
                                           bool keeps_logits) const {
  if (impl_->options.head == Head::kTokenClass) {
    impl_->use_head(Head::kTokenClass, "log-probs");
    return impl_->class_logprobs(hidden, head);
  }
  impl_->use_head(Head::kLanguageModel, "log-probs");
  const at::Tensor rows = impl_->head_rows(hidden, head);
  const double temperature = impl_->options.temperature;
  return impl_->options.tp == nullptr
             ? ops::selected_logprob(rows, *impl_->weights.head, head.score_row, head.score_target, temperature,
                                     keeps_logits)
             : parallel::selected_logprob(rows, *impl_->weights.head, head.score_row, head.score_target,
                                          *impl_->options.tp, temperature, keeps_logits);
}

at::Tensor Transformer::mean_head_row() const {
  impl_->use_head(Head::kLanguageModel, "mean logits");
  at::Tensor mean = ops::mean_row(impl_->weights.head->value, static_cast<double>(impl_->config.vocab_size));
  if (impl_->options.tp != nullptr) impl_->options.tp->all_reduce(mean);
  return mean;
}

at::Tensor Transformer::mean_logits(const at::Tensor& hidden, const parallel::HeadRows& head,
                                    const at::Tensor& mean_row) const {
  impl_->use_head(Head::kLanguageModel, "mean logits");
  const at::NoGradGuard no_grad;
  return ops::mean_logits(impl_->head_rows(hidden.detach(), head), mean_row);
}

at::Tensor Transformer::base_kl(const at::Tensor& hidden, const Transformer& base, const at::Tensor& base_hidden,
                                const parallel::HeadRows& head) const {
  impl_->use_head(Head::kLanguageModel, "a divergence");
  const at::Tensor rows = impl_->head_rows(hidden, head), base_rows = base.impl_->head_rows(base_hidden.detach(), head);
  return parallel::base_kl(rows, *impl_->weights.head, base_rows, *base.impl_->weights.head, impl_->options.temperature,
                           impl_->options.tp);
}

at::Tensor Transformer::scores(const at::Tensor& hidden, const parallel::HeadRows& head) const {
  impl_->use_head(Head::kScore, "scores");
  check<DataError>(!head.has_empty_sample, "a sample without tokens has no score: a reward model needs ",
                   "at least one token in every prompt and completion together");
  const at::Tensor last = pick_rows(hidden, head.last_row);
  // Where it is trained in float32 beside a bfloat16 model.
  return ops::linear(last.to(impl_->weights.head->value.scalar_type()), *impl_->weights.head)
      .squeeze(1)
      .to(ops::accumulate_dtype(hidden.scalar_type()));
}

at::Tensor Transformer::own_logits(const at::Tensor& hidden) const {
  impl_->use_head(Head::kLanguageModel, "logits");
  const at::NoGradGuard no_grad;
  return ops::logits(hidden, *impl_->weights.head);
}

at::Tensor Transformer::logits(const at::Tensor& hidden) const {
  comm::Communicator* const tp = impl_->options.tp;
  if (tp == nullptr || tp->size() == 1) return own_logits(hidden);
  impl_->use_head(Head::kLanguageModel, "logits");
  const at::NoGradGuard no_grad;
  const ops::Parameter& head = *impl_->weights.head;
  const auto counts = parallel::split_evenly(impl_->config.vocab_size, tp->size());
  return parallel::gather_rows(ops::transposed_logits(hidden, head), *tp, counts).t().contiguous();  // by vocabulary
}

void Transformer::set_packed(bool packed, bool by_parts) const {
  const auto set = [&](ops::Parameter& weight) {
    packed&& by_parts ? ops::pack_by_parts(weight) : ops::set_packed(weight, packed);
  };
  for (size_t i = 0; i < impl_->weights.block.size(); ++i) {
    if (packed) impl_->use(impl_->segment_parameters[i]);
    for (const Linear* linear : linears_of(impl_->weights.block[i])) set(*linear->weight);
  }
  if (!impl_->weights.head) return;
  if (packed) impl_->use_head(Head::kLanguageModel, "packed weights");
  set(*impl_->weights.head);
}

}  // namespace fpdist::model
