#pragma once
// config: the files that a configuration reads.

#include "fpdist/config/config.hpp"
#include "src/files/inputs.hpp"

namespace fpdist::config {

/// What data.path and data.eval_path name, plan.costs, and what lies in model.path, model.ref_path, data.tokenizer and
/// the folder of token caches.
files::Inputs inputs_of(const Config& config);

}  // namespace fpdist::config
