#include "src/trainer/weights/begin_prefix.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <string>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/parallel/stage.hpp"
#include "src/config/read_data.hpp"
#include "src/core/index.hpp"
#include "src/generate/pass.hpp"

namespace fpdist::trainer {
namespace {

using Run = std::unique_ptr<model::Transformer>;

/// The tokens of the text that `key` gives.
std::vector<int32_t> tokens_of(const char* key, const std::string& text, const config::Config& config,
                               const arch::Model& model) {
  const auto tokenizer = config::tokenizer_of(config, model);
  const std::string refusal = tokenizer->refusal();
  check<DataError>(refusal.empty(), key, ": ", refusal);
  data::EncodedText encoded = tokenizer->encode(std::vector<data::TextRequest>{{.text = text}}).at(0);
  check<DataError>(encoded.error.empty(), key, ": ", encoded.error);
  check<DataError>(!encoded.id.empty(), key, ": the text has no tokens");
  for (const int32_t id : encoded.id)
    check<DataError>(id >= 0 && id < model.vocab_size, key, ": token id ", id, " is not in the model's vocabulary of ",
                     model.vocab_size, ": use the tokenizer that the model was made with");
  return std::move(encoded.id);
}

/// The first tokens of adapter.init_text.
std::vector<int32_t> tokens_of_keys(const config::Config& config, const arch::Model& model) {
  std::vector<int32_t> ids = tokens_of("adapter.init_text", config.adapter.init_text, config, model);
  const int64_t tokens = model.adapter.prefix.tokens;
  check<ConfigError>(std::ssize(ids) >= tokens, "adapter.init_text has ", ids.size(),
                     " tokens, and adapter.num_virtual_tokens is ", tokens, ": give a longer text, or ", ids.size(),
                     " tokens");
  ids.resize(index(tokens));
  return ids;
}

/// Those whose embeddings virtual tokens begin with: drawn, or a text's, cut or repeated as PEFT does.
std::vector<int32_t> tokens_of_prompt(const config::Config& config, const arch::Model& model) {
  std::vector<int32_t> ids(index(model.adapter.prefix.tokens));
  if (config.adapter.prompt_tuning_init == "SAMPLE_VOCAB") {
    Rng rng(config.model.seed);
    for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(static_cast<uint64_t>(model.vocab_size)));
    return ids;
  }
  const std::vector<int32_t> text =
      tokens_of("adapter.prompt_tuning_init_text", config.adapter.prompt_tuning_init_text, config, model);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = text[i % text.size()];
  return ids;
}

/// The text as the only rows of a pack, for a tp rank.
parallel::RowsHere rows_of(const std::vector<int32_t>& tokens, const comm::Mesh& mesh, at::Device device) {
  data::Sample sample;
  sample.token = tokens;
  sample.target.assign(tokens.size(), data::kIgnore);
  const prefix::PackMember member{0, 0, &sample};
  parallel::RowsHere rows = parallel::make_pack_tensors(prefix::make_layout({&member, 1}),
                                                        {.tp_rank = mesh.at().tp, .tp_size = mesh.shape().tp})
                                .slice[0]
                                .rows;
  rows.token = rows.token.to(device), rows.depth = rows.depth.to(device);
  rows.calls = ops::prepare_attention(rows.mask, device);
  return rows;
}

/// What one prefix begins as, into all that lie behind each other there.
void put_in_all(const at::Tensor& one, const ops::Parameter& parameter) {
  parameter.value.unflatten(0, {-1, one.size(0)}).copy_(one);
}

/// What `kept` has got, into the prefix of the run, whose parameters stand layer by layer.
void copy_keys(const model::KeptKeys& kept, const model::Transformer& run) {
  const at::NoGradGuard filling;
  size_t keys = 0, values = 0;
  for (const auto& parameter : run.trained())
    if (parameter->name.ends_with(arch::kPrefixKeys))
      put_in_all(kept.keys[keys++].flatten(1), *parameter);
    else if (parameter->name.ends_with(arch::kPrefixValues))
      put_in_all(kept.values[values++].flatten(1), *parameter);
}

void begin_prompt(const config::Config& config, const arch::Model& model, const model::Transformer& run,
                  const comm::Mesh& mesh) {
  if (config.adapter.prompt_tuning_init == "RANDOM" || !run.options().layers.embedding) return;
  const parallel::RowsHere rows = rows_of(tokens_of_prompt(config, model), mesh, run.options().device);
  const at::NoGradGuard filling;
  const at::Tensor embedded = run.frozen(/*keeps_adapter=*/false)->embeddings(rows);
  for (const auto& parameter : run.trained())
    if (parameter->name == arch::kPromptWeight) put_in_all(embedded, *parameter);
}

}  // namespace

void begin_prefix(const config::Config& config, const arch::Model& model, const std::vector<Run>& runs,
                  const comm::Mesh& mesh) {
  if (model.adapter.prefix.trains == arch::Prefix::Trains::kEmbeddings)
    return begin_prompt(config, model, *runs.front(), mesh);
  if (config.adapter.init_text.empty()) return;
  const parallel::RowsHere rows = rows_of(tokens_of_keys(config, model), mesh, runs.front()->options().device);
  generate::Stages stages{.runs = {}, .pp = mesh.shape().pp > 1 ? &mesh.pp() : nullptr};
  std::vector<Run> alone;
  std::vector<model::KeptKeys> kept;
  for (const Run& run : runs) {
    alone.push_back(run->frozen(/*keeps_adapter=*/false));
    stages.runs.push_back(alone.back().get());
    kept.push_back(alone.back()->make_kept_keys(rows.depth.size(0)));
    kept.back().row = at::arange(rows.depth.size(0), rows.depth.options());
  }
  generate::Sent sent;
  generate::pass(stages, rows, kept, sent);
  generate::wait_for(sent);
  for (size_t run = 0; run < runs.size(); ++run) copy_keys(kept[run], *runs[run]);
}

}  // namespace fpdist::trainer
