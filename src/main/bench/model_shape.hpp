#pragma once
// main (fpdist_bench): shapes of models to measure, with no weights of anybody's.

#include <string>

#include "fpdist/arch/model.hpp"

namespace fpdist::bench {

/// A built-in name (qwen2.5-7b, qwen2.5-0.5b, llama-3-8b, small) or the path of a config.json or of the directory that
/// holds one; `layers` > 0 keeps so many. Throws ConfigError listing the names, ModelFileError for a bad file.
arch::Model model_shape(const std::string& name, int64_t layers);

/// Throws ConfigError where the file `json`, which is to be written, is the config.json that `name` names.
void check_spared(const std::string& name, const std::string& json);

}  // namespace fpdist::bench
