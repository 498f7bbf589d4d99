#pragma once
// A YAML file into a Config.

#include <string>
#include <vector>

#include "fpdist/config/config.hpp"

namespace fpdist::config {

/// Reads `file` over `config` and returns everything that is wrong with it, each as "file:line:column: what".
std::vector<std::string> read_yaml(const std::string& file, Config& config);

}  // namespace fpdist::config
