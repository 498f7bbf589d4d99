#pragma once
// config: YAML file and command line to Config. One table of keys feeds YAML, command line, --help and echo.

#include <string>
#include <utility>
#include <vector>

#include "fpdist/config/config.hpp"

namespace fpdist::config {

struct CommandLine {
  Config config;
  std::string file;           ///< that it was read from; "": none
  bool plan = false;          ///< --plan
  bool print_config = false;  ///< --print-config
  bool quiet = false;         ///< --quiet: only warnings and errors on the terminal
  bool help = false;          ///< --help, -h
  std::string topic;          ///< of --help: a section, a key, "names"; "": all
  bool version = false;       ///< --version
  /// What the method decided because neither file nor command line do, to be said: "optim.learning_rate is 2e-05, ...".
  std::vector<std::string> chosen;
};

/// [--config] FILE.yaml [--section.key value | --section.key=value ...] [--plan] [--print-config] [--quiet]
/// [--help [TOPIC]] [--version]; defaults < file < command line, and optim.learning_rate, where neither has it, is the
/// method's (TRL 1.16's: sft 2e-5, dpo and grpo 1e-6, reward 1e-4); '-' and '_' are alike; booleans also as --x and
/// --no-x. Throws ConfigError with file:line:column (or the argument) and the nearest known key; all errors of a file
/// are listed at once. Calls validate.
CommandLine parse_command_line(const std::vector<std::string>& arguments);

/// Text of `--help TOPIC`: every key with its default, meaning and values, those of a section with an example, one key,
/// or the "names" that other trainers have for ours. Throws ConfigError for another topic.
std::string help_text(const std::string& topic = "");

/// The configuration, every key of it, as YAML that parse_command_line reads back to the same value.
std::string to_yaml(const Config& config);

/// Every key by its full name ("train.seed") and its value as YAML has it, in the order of to_yaml.
std::vector<std::pair<std::string, std::string>> key_values(const Config& config);

}  // namespace fpdist::config
