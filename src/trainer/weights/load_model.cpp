#include "src/trainer/weights/load_model.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/checkpoint/same_weights.hpp"
#include "src/core/index.hpp"
#include "src/trainer/job.hpp"

namespace fpdist::trainer {
namespace {

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

/// Fills the own slices from the directory; returns the names that it lacks.
std::string read_weights(const checkpoint::HfDirectory& directory, uint64_t seed, model::Transformer& run) {
  const at::NoGradGuard filling;
  std::string missing;
  for (const auto& parameter : run.parameters()) {
    if (directory.contains(parameter->name)) {
      const ops::Sharding& sharding = parameter->sharding;
      const at::IntArrayRef full = sharding.dim < 0 ? parameter->value.sizes() : at::IntArrayRef(sharding.full_shape);
      directory.read_slice_into(parameter->name, full, sharding.dim, sharding.begin, parameter->value);
    } else if (parameter->name == model::kScoreWeight) {
      run.initialize(seed, parameter->name);  // a base model has no score head yet
    } else {
      missing += (missing.empty() ? "" : ", ") + parameter->name;
    }
  }
  return missing;
}

}  // namespace

bool ties_stages(const Config& config, const arch::Model& model) {
  return model.tie_word_embeddings && head_of(config) == Head::kLanguageModel && config.parallel.pp > 1;
}

std::vector<std::unique_ptr<model::Transformer>> load_model(const Config& config, const arch::Model& shape,
                                                            const comm::Mesh& mesh, at::Device where) {
  const std::vector<model::StageLayers> all = split_layers(config.parallel.layers);
  std::vector<std::unique_ptr<model::Transformer>> own;
  std::optional<checkpoint::HfDirectory> directory;
  if (!config.model.path.empty()) directory.emplace(config.model.path);
  std::string missing;
  for (int run = 0; run < config.parallel.virtual_stages; ++run) {
    const model::TransformerOptions options{
        .dtype = scalar_type(config.model.dtype),
        .device = where,
        .head = head_of(config),
        .trainable = true,
        .gradient_checkpointing = config.model.gradient_checkpointing,
        .defer_weight_gradients = config.parallel.schedule == plan::Schedule::kZeroBubble,
        .layers = all[index(run * mesh.shape().pp + mesh.at().pp)],
        .tp = &mesh.tp()};
    own.push_back(std::make_unique<model::Transformer>(shape, options));
    if (directory) {
      const std::string lacks = read_weights(*directory, config.model.seed, *own.back());
      if (!lacks.empty()) missing += (missing.empty() ? "" : ", ") + lacks;
    } else {
      own.back()->initialize(config.model.seed);
    }
  }
  check<ModelFileError>(missing.empty(), config.model.path, " lacks weights that its config.json asks for: ", missing,
                        ": is this a complete causal language model?");
  if (directory) checkpoint::check_same_weights(*directory, mesh.world());
  return own;
}

OrderedParameters order_parameters(const std::vector<std::unique_ptr<model::Transformer>>& runs, bool ties_stages) {
  const auto is_late = [&](const ops::ParameterPtr& parameter) {
    return !parameter->decay() || parameter->sharding.sum != ops::Sharding::Sum::kNobody ||
           (ties_stages && parameter->name == model::kEmbeddingWeight);
  };
  OrderedParameters ordered;
  for (const auto& run : runs)
    ordered.all.insert(ordered.all.end(), run->parameters().begin(), run->parameters().end());
  ordered.by_use = ordered.all;
  const auto late = std::stable_partition(ordered.all.begin(), ordered.all.end(),
                                          [&](const auto& parameter) { return !is_late(parameter); });
  ordered.late = index(late - ordered.all.begin());
  return ordered;
}

}  // namespace fpdist::trainer
