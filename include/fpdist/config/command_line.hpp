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
  bool help = false;          ///< --help
};

/// [--config] FILE.yaml [--section.key value | --section.key=value ...] [--plan] [--print-config] [--quiet] [--help];
/// defaults < file < command line; '-' and '_' are alike; booleans also as --x and --no-x. Throws ConfigError with
/// file:line:column (or the argument) and the nearest known key; all errors of a file are listed at once. Calls
/// validate.
CommandLine parse_command_line(const std::vector<std::string>& arguments);

/// Text of `--help`: every key with its default and meaning.
std::string help_text();

/// The configuration, every key of it, as YAML that parse_command_line reads back to the same value.
std::string to_yaml(const Config& config);

/// Every key by its full name ("train.seed") and its value as YAML has it, in the order of to_yaml.
std::vector<std::pair<std::string, std::string>> key_values(const Config& config);

}  // namespace fpdist::config
