#include "src/main/export/export_model.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/adapter_json.hpp"
#include "src/arch/config_json.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/checkpoint/merge_adapter.hpp"
#include "src/checkpoint/state/convert.hpp"
#include "src/config/inputs.hpp"
#include "src/files/inputs.hpp"
#include "src/main/export/export_ntk.hpp"
#include "src/main/export/export_prefix.hpp"
#include "src/main/export/trainer_words.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/weights/load_adapter.hpp"

namespace fpdist::main_program {
namespace {

namespace fs = std::filesystem;
using checkpoint::ExportOptions, checkpoint::HfDirectory, checkpoint::TrainingState;

bool is_checkpoint(const std::string& folder) {
  std::error_code unknown;
  return fs::exists(folder + "/manifest.json", unknown);
}

/// Nothing is in the output folder, and nothing of the input where it is built.
void check_output(const ExportRequest& request) {
  std::error_code unknown;
  const fs::path folder = checkpoint::without_slash(request.to);
  check<ConfigError>(
      !fs::exists(folder, unknown) || (fs::is_directory(folder, unknown) && fs::is_empty(folder, unknown)), request.to,
      " is there already and is not an empty folder: choose another output folder");
  files::Inputs inputs;
  config::add_model_folder("the input", request.from, inputs);
  const std::string staging = folder.string() + ".tmp";
  std::vector<std::string> in_the_way = checkpoint::files_in_the_way(folder);
  for (const std::string& name : checkpoint::files_of_model(staging)) in_the_way.push_back(staging + "/" + name);
  for (const std::string& file : in_the_way) inputs.check_spared(file, "choose another output folder");
}

DType master_dtype(DType dtype) { return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32; }

std::vector<checkpoint::TensorSpec> specs_of(const arch::Model& model, Head head, DType dtype) {
  std::vector<checkpoint::TensorSpec> specs;
  for (auto& [name, shape] : arch::parameters(model, head))
    specs.push_back({name, trainer::scalar_type(dtype), std::move(shape)});
  return specs;
}

/// config.json's dtype, of those that there are here.
DType dtype_of(const std::string& config_json, const std::string& where) {
  const std::string name = arch::dtype_in(config_json, where);
  for (const auto& [dtype, known] : kDTypes)
    if (known == name) return dtype;
  throw ModelFileError(text(where, ": its dtype is \"", name, "\": say --dtype float32 or bfloat16"));
}

bool has_adapter(const TrainingState& state) {
  const std::vector<std::string> names = state.names();
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.ends_with(checkpoint::kMaster) &&
           arch::is_of_adapter(std::string_view(name).substr(0, name.size() - std::strlen(checkpoint::kMaster)));
  });
}

/// Of a run that trained an adapter: that alone, as its final/ has it.
std::string export_adapter(const ExportRequest& request, const TrainingState& state, arch::Model model, Head head) {
  const config::Config run = config::parse_command_line({request.from + "/config.resolved.yaml"}).config;
  model.adapter = arch::adapter_of(model, head, run.adapter);
  const DType dtype = request.dtype.value_or(master_dtype(run.model.dtype));
  std::vector<checkpoint::TensorSpec> specs;
  for (auto& [name, shape] : arch::trained_parameters(model, head))
    specs.push_back({name, trainer::scalar_type(dtype), std::move(shape)});
  checkpoint::export_masters(state, specs, request.to,
                             {.config_json = {},
                              .adapter_json = arch::adapter_config_json(model, head, run.adapter, run.model.path),
                              .copy_from = request.from});
  return text(request.to, ": the adapter of ", request.from, " in ", name_of(dtype));
}

/// The adapter's model with its products in the weights.
std::string merge(const ExportRequest& request) {
  const HfDirectory adapter = HfDirectory::of_adapter(request.from);
  const std::string named = arch::base_of(adapter.config_json(), adapter.config_path());
  const std::string& from = request.base.empty() ? named : request.base;
  check<ConfigError>(!from.empty(), request.from, " does not name its model: say --base MODEL");
  const HfDirectory base(from);
  arch::Model model = arch::parse_model_config(base.config_json(), base.config_path());
  check<ConfigError>(!model.quantization, from, " holds weights of 4 bits, and merging would round each of them anew: ",
                     "merge into the model that it was quantised from, --base MODEL");
  const Head head = arch::head_of([&](const char* name) { return adapter.contains(name); });
  check<ConfigError>(head == Head::kLanguageModel, request.from,
                     " holds a score head beside the adapter: load it with PEFT, only language models are merged here");
  model.adapter =
      arch::adapter_of(model, head, arch::parse_adapter_config(adapter.config_json(), adapter.config_path()));
  check<ConfigError>(!model.adapter.linear.empty(), request.from,
                     " is a prefix, which no weight can take in: load it with PEFT, or train on it with adapter.path");
  trainer::check_is_adapter_of(model, head, adapter);
  const checkpoint::MergeLoss loss = checkpoint::export_merged(
      base, adapter, model.adapter, request.to,
      {.config_json = base.config_json(), .copy_from = from, .max_shard_bytes = request.max_shard_bytes});
  return text(request.to, ": ", from, " with ", model.adapter.linear.size(), " products of ", request.from,
              " in its weights; rounding changed them by at most ", loss.largest,
              loss.weight.empty() ? "" : text(" (", loss.weight, ")"));
}

std::string export_checkpoint(const ExportRequest& request) {
  const TrainingState state(request.from);
  state.verify(0, 1);
  const std::string where = arch::config_json_path(request.from);
  arch::Model model = arch::parse_model_config(state.config_json(), where);
  const auto has = [&](const char* weight) { return state.contains(std::string(weight) + checkpoint::kMaster); };
  const Head head = arch::head_of(has);
  if (head == Head::kLanguageModel) model.tie_word_embeddings = !has(arch::kHeadWeight);
  if (has_adapter(state)) return export_adapter(request, state, std::move(model), head);
  const DType dtype = request.dtype ? *request.dtype : dtype_of(state.config_json(), where);
  arch::ExportConfig as{.dtype = name_of(dtype), .head = head};
  if (head == Head::kScore) as.pad_token_id = pad_token_of(state, model);
  checkpoint::export_masters(state, specs_of(model, head, dtype), request.to,
                             {.config_json = arch::export_config_json(model, as),
                              .copy_from = request.from,
                              .max_shard_bytes = request.max_shard_bytes});
  return text(request.to, ": the weights of ", request.from, " in ", name_of(dtype));
}

/// Weights of 4 bits are copied as they lie, and nothing else becomes of them.
void refuse_quantized(const HfDirectory& from, const std::string& option) {
  if (arch::parse_model_config(from.config_json(), from.config_path()).quantization)
    throw ConfigError(text(from.path(), " holds weights of 4 bits: ", option, " is for the unquantised model"));
}

std::string export_directory(const ExportRequest& request, const HfDirectory& from) {
  ExportOptions options{
      .config_json = from.config_json(), .copy_from = request.from, .max_shard_bytes = request.max_shard_bytes};
  std::optional<at::ScalarType> dtype;
  if (request.dtype) {
    refuse_quantized(from, "--dtype");
    dtype = trainer::scalar_type(*request.dtype);
    options.config_json = arch::with_dtype(options.config_json, name_of(*request.dtype), from.config_path());
  }
  checkpoint::export_again(from, dtype, request.to, options);
  return text(request.to, ": the weights of ", request.from, " in ",
              request.dtype ? name_of(*request.dtype) : "their own dtypes");
}

std::string make_checkpoint(const ExportRequest& request, const HfDirectory& from) {
  refuse_quantized(from, "--to-checkpoint");
  arch::Model model = arch::parse_model_config(from.config_json(), from.config_path());
  const Head head = arch::head_of([&](const char* name) { return from.contains(name); });
  if (head == Head::kLanguageModel) model.tie_word_embeddings = checkpoint::ties_embedding(from, model);
  const DType dtype = dtype_of(from.config_json(), from.config_path());
  try {
    checkpoint::begin_state(from, specs_of(model, head, master_dtype(dtype)), request.to,
                            {.state_json = first_state(model, head),
                             .config_json = arch::export_config_json(model, {.dtype = name_of(dtype), .head = head}),
                             .companions_from = request.from});
  } catch (const Error&) {
    checkpoint::discard_state(request.to);
    throw;
  }
  return text(request.to, ": a checkpoint with the weights of ", request.from,
              " ahead of the first step: train.resume_from_checkpoint: ", request.to);
}

}  // namespace

std::string export_model(const ExportRequest& request) {
  check_output(request);
  if (is_checkpoint(request.from)) {
    check<ConfigError>(request.prefix.empty() && !request.ntk, request.from,
                       " is a checkpoint: make an adapter of it first, without ", request.ntk ? "--ntk" : "--prefix",
                       ", and go on with that");
    check<ConfigError>(!request.merge, request.from,
                       " is a checkpoint: make an adapter of it first, without --merge, and merge that");
    check<ConfigError>(!request.to_checkpoint, request.from, " is a checkpoint already: leave out --to-checkpoint");
    return export_checkpoint(request);
  }
  if (request.merge) return merge(request);
  if (!request.prefix.empty()) return export_prefix(request);
  if (request.ntk) return export_ntk(request);
  const HfDirectory from(request.from);
  return request.to_checkpoint ? make_checkpoint(request, from) : export_directory(request, from);
}

}  // namespace fpdist::main_program
