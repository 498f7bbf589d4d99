#include "src/main/export/export_ntk.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "fpdist/arch/model.hpp"
#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/adapter_json.hpp"
#include "src/arch/config_json.hpp"
#include "src/trainer/weights/load_adapter.hpp"

namespace fpdist::main_program {
namespace {

/// Of one layer's keys and values [P, Hkv D]: [Hq D, D] and [Hq, D].
struct NtkOfLayer {
  at::Tensor values, keys;
};

NtkOfLayer turned(const at::Tensor& keys, const at::Tensor& values, const arch::Attention& attention) {
  const int64_t dim = attention.head_dim;
  const auto by_head = [&](const at::Tensor& all) { return all.to(at::kDouble).view({-1, attention.kv_heads, dim}); };
  const at::Tensor phi = at::elu(by_head(keys) / std::pow(static_cast<double>(dim), 0.25)) + 1;
  const at::Tensor z = at::matmul(phi.permute({1, 2, 0}), by_head(values).transpose(0, 1));  // [Hkv,D,D]
  const auto of_queries = [&](const at::Tensor& each) {
    return each.repeat_interleave(attention.heads / attention.kv_heads, 0).to(keys.scalar_type());
  };
  return {of_queries(z).flatten(0, 1).contiguous(), of_queries(phi.sum(0)).contiguous()};
}

}  // namespace

std::string export_ntk(const ExportRequest& request) {
  const auto adapter = checkpoint::HfDirectory::of_adapter(request.from);
  const arch::AdapterOptions options = arch::parse_adapter_config(adapter.config_json(), adapter.config_path());
  check<ConfigError>(options.prefix_by == "none", request.from, " holds several prefixes: take one first, --prefix");
  check<ConfigError>(options.type == "prefix_tuning" || options.type == "cartridge", request.from, " is of type ",
                     options.type, ", and NTK-Attention stands for the keys of a prefix (prefix_tuning, cartridge)");
  const std::string named = arch::base_of(adapter.config_json(), adapter.config_path());
  const std::string& base = request.base.empty() ? named : request.base;
  check<ConfigError>(!base.empty(), request.from, " does not name its model: say --base MODEL");
  arch::Model model = arch::parse_model_config(arch::read_config_json(base), arch::config_json_path(base));
  const Head head = adapter.contains(arch::kScoreWeight) ? Head::kScore : Head::kLanguageModel;
  model.adapter = arch::adapter_of(model, head, options);
  trainer::check_is_adapter_of(model, head, adapter);
  const at::Tensor all = adapter.tensor(arch::kPromptEmbeddings);
  checkpoint::NamedTensors tensors;
  for (size_t layer = 0; layer < model.layers.size(); ++layer) {
    const arch::Attention& attention = model.layers[layer].attention;
    const std::string name = "model.layers." + std::to_string(layer);
    const auto part = [&](const char* which) {
      return all.narrow(1, arch::prefix_column(model, name + which), attention.kv_heads * attention.head_dim);
    };
    const NtkOfLayer of = turned(part(arch::kPrefixKeys), part(arch::kPrefixValues), attention);
    tensors.emplace_back(name + arch::kNtkValues, of.values), tensors.emplace_back(name + arch::kNtkKeys, of.keys);
  }
  if (head == Head::kScore) tensors.emplace_back(arch::kScoreWeight, adapter.tensor(arch::kScoreWeight));
  model.adapter = {};
  model.adapter.has_ntk = true;
  checkpoint::export_hf_directory(
      request.to, tensors,
      {.config_json = {}, .adapter_json = arch::adapter_config_json(model, head, {}, base), .copy_from = request.from});
  return text(request.to, ": NTK-Attention in the place of ", options.num_virtual_tokens, " virtual tokens of ",
              request.from, ", an approximation to train on (adapter.path)");
}

}  // namespace fpdist::main_program
