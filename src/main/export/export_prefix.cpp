#include "src/main/export/export_prefix.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/adapter_json.hpp"

namespace fpdist::main_program {
namespace {

/// Rows of the one tensor of all prefixes by source.
at::Tensor prefix_of_source(const ExportRequest& request, const checkpoint::HfDirectory& adapter,
                            const arch::AdapterOptions& options) {
  const std::vector<std::string>& values = options.prefix_values;
  const auto found = std::find(values.begin(), values.end(), request.prefix);
  std::string known;
  for (const std::string& value : values) known += text(known.empty() ? "" : ", ", value);
  check<ConfigError>(found != values.end(), request.from, " has no prefix of '", request.prefix, "': it has those of ",
                     known);
  const std::string all = arch::kPromptEmbeddings;
  const std::vector<int64_t> shape = adapter.contains(all) ? adapter.shape(all) : std::vector<int64_t>{};
  check<ModelFileError>(shape.size() == 2 && shape[0] == options.num_virtual_tokens * std::ssize(values), request.from,
                        ": its weights are not of ", values.size(), " prefixes of ", options.num_virtual_tokens,
                        " tokens, as its adapter_config.json says: is it whole?");
  const int64_t first = (found - values.begin()) * options.num_virtual_tokens;
  return adapter.tensor(all).narrow(0, first, options.num_virtual_tokens).contiguous();
}

/// [1, context_dim]
at::Tensor context_of(const ExportRequest& request, const arch::AdapterOptions& options) {
  const nlohmann::json list = nlohmann::json::parse(request.prefix, nullptr, /*allow_exceptions=*/false);
  const auto is_number = [](const nlohmann::json& one) { return one.is_number(); };
  check<ConfigError>(
      list.is_array() && std::ssize(list) == options.context_dim && std::all_of(list.begin(), list.end(), is_number),
      "--prefix ", request.prefix, ": ", request.from, " makes prefixes of contexts: give one, a list of ",
      options.context_dim, " numbers, --prefix '[0.5, -1]'");
  return at::tensor(list.get<std::vector<float>>(), at::kFloat).unsqueeze(0);
}

/// What the MLP makes of a context (arch::Prefix), as PEFT's tensor: [tokens, hidden] or [tokens, layers 2 Hkv D].
at::Tensor prefix_of_context(const ExportRequest& request, const checkpoint::HfDirectory& adapter,
                             const arch::AdapterOptions& options) {
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    const at::Tensor weight = adapter.tensor(name + ".weight").to(at::kDouble);
    check<ModelFileError>(weight.dim() == 2 && weight.size(1) == x.size(1), request.from, ": ", name,
                          ".weight is of another MLP than its adapter_config.json says: is it whole?");
    return at::linear(x, weight, adapter.tensor(name + ".bias").to(at::kDouble));
  };
  const at::Tensor units = at::tanh(linear(context_of(request, options).to(at::kDouble), arch::kPrefixHidden));
  const at::ScalarType dtype = adapter.tensor(arch::kPrefixHidden + std::string(".weight")).scalar_type();
  const int64_t tokens = options.num_virtual_tokens;
  if (options.type == "prompt_tuning") return linear(units, arch::kPrefixMade).view({tokens, -1}).to(dtype);
  const nlohmann::json config = nlohmann::json::parse(adapter.config_json());
  const auto heads = config.value("num_attention_heads", int64_t{1}), layers = config.value("num_layers", int64_t{0});
  std::vector<at::Tensor> parts;
  for (int64_t layer = 0; layer < layers; ++layer)
    for (const char* which : {arch::kPrefixKeys, arch::kPrefixValues})
      parts.push_back(linear(units, text("model.layers.", layer, which))
                          .view({heads, tokens, -1})
                          .transpose(0, 1)
                          .reshape({tokens, -1}));
  return at::cat(parts, 1).to(dtype);
}

}  // namespace

std::string export_prefix(const ExportRequest& request) {
  const auto adapter = checkpoint::HfDirectory::of_adapter(request.from);
  const arch::AdapterOptions options = arch::parse_adapter_config(adapter.config_json(), adapter.config_path());
  check<ConfigError>(options.prefix_by != "none", request.from,
                     " holds no prefixes by source or context (adapter.prefix_by): leave --prefix out");
  checkpoint::NamedTensors tensors{{arch::kPromptWeight, options.prefix_by == "source"
                                                             ? prefix_of_source(request, adapter, options)
                                                             : prefix_of_context(request, adapter, options)}};
  for (const char* of_score : {arch::kScoreWeight, arch::kScoreBias})
    if (adapter.contains(of_score)) tensors.emplace_back(of_score, adapter.tensor(of_score));
  checkpoint::export_hf_directory(
      request.to, tensors,
      {.config_json = {}, .adapter_json = arch::one_prefix_json(adapter.config_json()), .copy_from = request.from});
  return text(request.to, ": the prefix of '", request.prefix, "' of ", request.from);
}

}  // namespace fpdist::main_program
