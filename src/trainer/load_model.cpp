// Models of a run: from a Hugging Face directory or a preset, the frozen copy, and what must fit them.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return at::kFloat;
    case DType::kBFloat16:
      return at::kBFloat16;
    case DType::kFloat64:
      return at::kDouble;
  }
  throw std::logic_error("enum value without a scalar type");
}

namespace {

std::unique_ptr<model::Transformer> make_model(const Config& config, const model::ModelConfig& shape, bool trainable) {
  const model::Head head = config.method == Method::kReward ? model::Head::kScore : model::Head::kLanguageModel;
  return std::make_unique<model::Transformer>(shape, scalar_type(config.model.dtype), at::kCPU, head, trainable,
                                              config.model.gradient_checkpointing);
}

}  // namespace

model::ModelConfig read_model_config(const model::ModelOptions& options) {
  if (options.path.empty()) return model::preset_config(options.preset);
  const checkpoint::HfDirectory directory(options.path);
  return model::parse_model_config(directory.config_json(), directory.config_path());
}

std::unique_ptr<model::Transformer> load_model(const Config& config, const model::ModelConfig& shape, bool trainable) {
  auto model = make_model(config, shape, trainable);
  if (config.model.path.empty()) {
    model->initialize(config.model.seed);
    return model;
  }
  const checkpoint::HfDirectory directory(config.model.path);
  const at::NoGradGuard filling;
  std::string missing;
  for (const auto& parameter : model->parameters()) {
    if (directory.contains(parameter->name)) {
      directory.read_into(parameter->name, parameter->value);
    } else if (parameter->name == model::kScoreWeight) {
      model->initialize(config.model.seed, parameter->name);  // a base model has no score head yet
    } else {
      missing += (missing.empty() ? "" : ", ") + parameter->name;
    }
  }
  check<ModelFileError>(missing.empty(), config.model.path, " lacks weights that its config.json asks for: ", missing,
                        ": is this a complete causal language model?");
  return model;
}

std::unique_ptr<model::Transformer> clone_frozen(const Config& config, const model::Transformer& policy) {
  auto frozen = make_model(config, policy.config(), /*trainable=*/false);
  const at::NoGradGuard copying;
  for (size_t p = 0; p < frozen->parameters().size(); ++p)
    frozen->parameters()[p]->value.copy_(policy.parameters()[p]->value);
  return frozen;
}

void check_vocabulary(const data::Dataset& dataset, const model::ModelConfig& model) {
  check<DataError>(dataset.max_token_id < model.vocab_size, "the data holds token id ", dataset.max_token_id,
                   ", the model's vocabulary has ", model.vocab_size,
                   " tokens: use the tokenizer that the model was made with");
}

bool has_reference_logps(const data::Dataset& dataset) {
  for (const data::Group& group : dataset.group)
    for (const data::Sample& sample : group.sample)
      if (sample.ref_logp.empty() && !sample.token.empty()) return false;
  return true;
}

}  // namespace fpdist::trainer
