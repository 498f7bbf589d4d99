#include "src/config/inputs.hpp"

#include "fpdist/core/error.hpp"
#include "src/arch/config_json.hpp"
#include "src/config/read_data.hpp"
#include "src/data/rows/data_files.hpp"

namespace fpdist::config {
namespace {

void add_data(const std::string& key, const std::string& path, files::Inputs& inputs) {
  try {
    for (const std::string& file : data::data_files({path})) inputs.add(key, file);
  } catch (const DataError&) {  // reading it says what is wrong
  }
}

}  // namespace

void add_model_folder(std::string_view what, const std::string& folder, files::Inputs& inputs) {
  inputs.add_folder(what, folder);
  inputs.add_folder(what, folder + "/" + arch::kNamedTemplates);
}

files::Inputs inputs_of(const Config& config) {
  files::Inputs inputs;
  for (const std::string& path : config.data.path) add_data("data.path", path, inputs);
  for (const std::string& path : config.data.eval_path) add_data("data.eval_path", path, inputs);
  for (const std::string& path : config.rollout.prompts) add_data("rollout.prompts", path, inputs);
  inputs.add("plan.costs", config.plan.costs);
  inputs.add("eval.kv_profile", config.eval.kv_profile);
  add_model_folder("model.path", config.model.path, inputs);
  add_model_folder("model.ref_path", config.model.ref_path, inputs);
  add_model_folder("adapter.path", config.adapter.path, inputs);
  add_model_folder("data.tokenizer", config.data.tokenizer, inputs);
  if (config.data.cache_dir != "none")
    inputs.add_folder("data.cache_dir",
                      config.data.cache_dir == "auto" ? own_cache_folder(config) : config.data.cache_dir);
  return inputs;
}

}  // namespace fpdist::config
