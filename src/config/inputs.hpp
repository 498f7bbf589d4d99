#pragma once
// config: the files that a configuration reads.

#include <string>
#include <string_view>

#include "fpdist/config/config.hpp"
#include "src/files/inputs.hpp"

namespace fpdist::config {

/// What data.path and data.eval_path name, plan.costs, eval.kv_profile, and what lies in model.path, model.ref_path,
/// data.tokenizer and the folder of token caches.
files::Inputs inputs_of(const Config& config);

/// Adds the files of a model's directory, its named chat templates among them; `what` reads them.
void add_model_folder(std::string_view what, const std::string& folder, files::Inputs& inputs);

}  // namespace fpdist::config
