#include "src/trainer/weights/load_model.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/ops/quantized_weight.hpp"
#include "src/checkpoint/nf4_tensors.hpp"
#include "src/checkpoint/same_weights.hpp"
#include "src/core/index.hpp"
#include "src/trainer/weights/begin_prefix.hpp"
#include "src/trainer/weights/load_adapter.hpp"

namespace fpdist::trainer {
namespace {

using Runs = std::vector<std::unique_ptr<model::Transformer>>;

Head head_of(const Config& config) { return loss::needs_of(config.method, config.loss).head; }

/// Runs of layers of the whole pipeline, in model order; `layers`: of each.
std::vector<model::StageLayers> split_layers(const std::vector<int64_t>& layers) {
  std::vector<model::StageLayers> runs;
  int64_t first = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    runs.push_back({.first = first, .count = layers[i], .embedding = i == 0, .head = i + 1 == layers.size()});
    first += layers[i];
  }
  return runs;
}

/// What a run's weights are read from.
struct Source {
  const checkpoint::HfDirectory& directory;
  bool ties_embedding;  ///< the head may stand for it
  uint64_t seed;        ///< of a score head and an adapter, which a base model has not
};

/// The directory's name of a parameter; none where it lacks it.
std::optional<std::string> name_in(const Source& from, const std::string& parameter) {
  if (from.directory.contains(parameter)) return parameter;
  const bool is_embedding = parameter == arch::kEmbeddingWeight && from.ties_embedding;
  if (is_embedding && from.directory.contains(arch::kHeadWeight)) return arch::kHeadWeight;
  return std::nullopt;
}

/// The parameter's slice of the tensor, in the destination's dtype.
void read_slice(const Source& from, const std::string& name, const ops::Parameter& parameter, at::Tensor& destination) {
  const ops::Sharding& sharding = parameter.sharding;
  const at::IntArrayRef full = sharding.dim < 0 ? destination.sizes() : at::IntArrayRef(sharding.full_shape);
  from.directory.read_slice_into(name, full, sharding.dim, sharding.begin, destination);
}

/// A quantized parameter's part of the directory's weight, which lies there in 4 bits or is quantized here, as a whole.
void read_quantized(const Source& from, ops::Parameter& parameter, bool nested) {
  const ops::QuantizedWeight& weight = *parameter.quantized;
  const ops::Sharding& sharding = parameter.sharding;
  const std::vector<int64_t>& shape = sharding.dim < 0 ? weight.matrix.sizes : sharding.full_shape;
  if (checkpoint::holds_quantized(from.directory, parameter.name))
    return ops::store(parameter, checkpoint::read_nf4(from.directory, parameter.name, shape));
  at::Tensor whole = at::empty(shape, weight.dtype);
  from.directory.read_into(parameter.name, whole);
  ops::store(parameter, ops::quantize(whole, nested));
}

/// Fills the own slices; returns the names that the directory lacks.
std::string read_weights(const Source& from, model::Transformer& run) {
  const at::NoGradGuard filling;
  std::string missing;
  for (const auto& parameter : run.parameters()) {
    const auto name = name_in(from, parameter->name);
    if (name && parameter->quantized)
      read_quantized(from, *parameter, run.config().quantization->nested);
    else if (name)
      read_slice(from, *name, *parameter, parameter->value);
    else if (arch::is_of_score(parameter->name) || arch::is_of_adapter(parameter->name))
      run.initialize(from.seed, parameter->name);  // a base model has none yet
    else
      missing += (missing.empty() ? "" : ", ") + parameter->name;
  }
  return missing;
}

/// Why weights may be missing.
std::string missing_text(const std::string& path, const std::string& missing, const arch::Model& model) {
  const std::string head = arch::kHeadWeight;
  return text(path, " lacks weights that its config.json asks for: ", missing,
              missing == head && !model.tie_word_embeddings
                  ? ": where the embedding is the head, say \"tie_word_embeddings\": true in config.json"
                  : ": is this a complete causal language model?");
}

/// The runs of layers of this rank as `common` says but for their layers; `fill` writes their weights.
template <typename Fill>
std::vector<std::unique_ptr<model::Transformer>> make_runs(const Config& config, const arch::Model& shape,
                                                           const comm::Mesh& mesh, model::TransformerOptions common,
                                                           Fill fill) {
  const std::vector<model::StageLayers> all = split_layers(config.parallel.layers);
  std::vector<std::unique_ptr<model::Transformer>> own;
  common.dtype = scalar_type(config.model.dtype), common.tp = &mesh.tp();
  common.temperature = loss_temperature(config);
  for (int run = 0; run < config.parallel.virtual_stages; ++run) {
    common.layers = all[index(run * mesh.shape().pp + mesh.at().pp)];
    own.push_back(std::make_unique<model::Transformer>(shape, common));
    fill(*own.back());
  }
  return own;
}

/// Where an adapter begins beside weights that are there: anew, or as the one that the job goes on from. Collective.
void begin_adapter(const Config& config, const arch::Model& shape, const Runs& runs, const comm::Mesh& mesh) {
  for (const auto& run : runs) run->begin_magnitudes();
  if (config.adapter.path.empty()) return begin_prefix(config, shape, runs, mesh);
  const checkpoint::HfDirectory adapter = checkpoint::HfDirectory::of_adapter(config.adapter.path);
  check_is_adapter_of(shape, head_of(config), adapter);
  for (const auto& run : runs)
    for (const auto& parameter : run->trained()) (void)read_from_adapter(shape, adapter, *parameter, parameter->value);
  checkpoint::check_same_weights(adapter, mesh.world());
}

/// Reads the weights of every run; throws ModelFileError with the names of all that are missing.
class Filling {
 public:
  Filling(std::string path, const Source& from, const arch::Model& model)
      : path_(std::move(path)), from_(from), model_(model) {}
  void operator()(model::Transformer& run) {
    const std::string lacks = read_weights(from_, run);
    if (!lacks.empty()) missing_ += (missing_.empty() ? "" : ", ") + lacks;
  }
  void finish() const { check<ModelFileError>(missing_.empty(), missing_text(path_, missing_, model_)); }

 private:
  std::string path_, missing_;
  Source from_;
  const arch::Model& model_;
};

}  // namespace

double loss_temperature(const Config& config) {
  return loss::needs_of(config.method, config.loss).advantage ? config.rollout.temperature : 1.0;
}

bool ties_stages(const Config& config, const arch::Model& model) {
  return model.tie_word_embeddings && !model.adapter.is_there() && head_of(config) == Head::kLanguageModel &&
         config.parallel.pp > 1;
}

bool is_copied(const arch::Model& model, std::string_view parameter) {
  return model.adapter.prefix.trains == arch::Prefix::Trains::kKeys &&
         (parameter == arch::kPrefixEmbedding || parameter.starts_with(arch::kPrefixHidden));
}

std::vector<std::unique_ptr<model::Transformer>> load_model(const Config& config, const arch::Model& shape,
                                                            const comm::Mesh& mesh, at::Device where) {
  const comm::SlowWork slow(mesh.world(), text("loading ", config.model.path));
  const model::TransformerOptions options{
      .device = where,
      .head = head_of(config),
      .gradient_checkpointing = config.model.gradient_checkpointing,
      .defer_weight_gradients = config.parallel.schedule == plan::Schedule::kZeroBubble};
  const uint64_t seed = config.model.seed;
  if (config.model.path.empty()) {
    auto runs = make_runs(config, shape, mesh, options, [seed](model::Transformer& run) { run.initialize(seed); });
    begin_adapter(config, shape, runs, mesh);
    return runs;
  }
  const checkpoint::HfDirectory directory(config.model.path);
  Filling filling(config.model.path, {directory, shape.tie_word_embeddings, seed}, shape);
  auto runs = make_runs(config, shape, mesh, options, std::ref(filling));
  filling.finish();
  checkpoint::check_same_weights(directory, mesh.world());
  begin_adapter(config, shape, runs, mesh);
  return runs;
}

void read_unrounded(const Config& config, const arch::Model& shape, const std::vector<ops::ParameterPtr>& parameters) {
  const at::NoGradGuard filling;
  const checkpoint::HfDirectory directory(config.model.path);
  const Source from{directory, shape.tie_word_embeddings, config.model.seed};
  std::optional<checkpoint::HfDirectory> adapter;
  if (!config.adapter.path.empty()) adapter = checkpoint::HfDirectory::of_adapter(config.adapter.path);
  for (const auto& parameter : parameters) {
    if (adapter && read_from_adapter(shape, *adapter, *parameter, parameter->main_grad)) continue;
    if (const auto name = name_in(from, parameter->name))
      read_slice(from, *name, *parameter, parameter->main_grad);
    else
      parameter->main_grad.copy_(parameter->value);  // seeded
  }
}

std::vector<std::unique_ptr<model::Transformer>> load_reference(const Job& job) {
  const std::string& path = job.config.model.ref_path;
  const comm::SlowWork slow(job.mesh.world(), text("loading ", path));
  const checkpoint::HfDirectory directory(path);
  arch::Model shape = arch::parse_model_config(directory.config_json(), directory.config_path());
  NullLog quiet;
  fit_to_weights(shape, directory, Head::kLanguageModel, job.world.rank() == 0 ? job.log : quiet);
  Filling filling(path, {directory, shape.tie_word_embeddings, 0}, shape);
  auto runs =
      make_runs(job.config, shape, job.mesh, {.device = job.device->where(), .trainable = false}, std::ref(filling));
  filling.finish();
  checkpoint::check_same_weights(directory, job.mesh.world());
  return runs;
}

OrderedParameters order_parameters(const std::vector<std::unique_ptr<model::Transformer>>& runs, bool ties_stages,
                                   bool has_stages) {
  const auto is_late = [&](const ops::ParameterPtr& parameter) {
    return !parameter->decay() || parameter->sharding.sum != ops::Sharding::Sum::kNobody ||
           (ties_stages && parameter->name == model::kEmbeddingWeight) ||
           (has_stages && is_copied(runs.front()->config(), parameter->name));
  };
  OrderedParameters ordered;
  for (const auto& run : runs) ordered.all.insert(ordered.all.end(), run->trained().begin(), run->trained().end());
  ordered.by_use = ordered.all;
  const auto late = std::stable_partition(ordered.all.begin(), ordered.all.end(),
                                          [&](const auto& parameter) { return !is_late(parameter); });
  ordered.late = index(late - ordered.all.begin());
  return ordered;
}

}  // namespace fpdist::trainer
