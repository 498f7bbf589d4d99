#pragma once
// main: what fpdist_generate is asked for.

#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/config/config.hpp"
#include "fpdist/generate/options.hpp"

namespace fpdist::main_program {

struct GenerateRequest {
  config::Config config;  ///< model and data.tokenizer
  generate::SamplingOptions sampling;
  std::string prompts, output;
  std::string write_kv_profile;  ///< a file; "": none. Of the other one config.eval knows
  std::vector<int64_t> pass_at;  ///< of completions that are judged
  bool help = false, version = false;
};

/// [[--config] FILE.yaml] [--section.key value ...]. Throws ConfigError; what vLLM and transformers call an option
/// otherwise is answered with its name here.
GenerateRequest parse_generate_request(std::vector<std::string> arguments);
/// For --help: the same options with what they mean and their defaults.
std::string generate_help();

}  // namespace fpdist::main_program
