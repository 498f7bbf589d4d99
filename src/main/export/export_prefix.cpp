#include "src/main/export/export_prefix.hpp"

#include <algorithm>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/adapter_json.hpp"

namespace fpdist::main_program {

std::string export_prefix(const ExportRequest& request) {
  const auto adapter = checkpoint::HfDirectory::of_adapter(request.from);
  const arch::AdapterOptions options = arch::parse_adapter_config(adapter.config_json(), adapter.config_path());
  const std::vector<std::string>& values = options.prefix_values;
  check<ConfigError>(!values.empty(), request.from, " holds no prefixes by source (adapter.prefix_by): leave --prefix ",
                     "out");
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
  checkpoint::NamedTensors tensors{
      {arch::kPromptWeight, adapter.tensor(all).narrow(0, first, options.num_virtual_tokens).contiguous()}};
  if (adapter.contains(arch::kScoreWeight))
    tensors.emplace_back(arch::kScoreWeight, adapter.tensor(arch::kScoreWeight));
  checkpoint::export_hf_directory(
      request.to, tensors,
      {.config_json = {}, .adapter_json = arch::one_prefix_json(adapter.config_json()), .copy_from = request.from});
  return text(request.to, ": the prefix of '", request.prefix, "' of ", request.from);
}

}  // namespace fpdist::main_program
