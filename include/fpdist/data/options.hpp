#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fpdist/core/types.hpp"

namespace fpdist::data {

struct DataOptions {
  /// JSONL files, read in this order.
  std::vector<std::string> path;
  /// Longest sample in tokens, prompt and completion. Longer text rows lose their end; a text row whose prompt alone
  /// reaches it is dropped and counted. Pre-tokenised rows are used exactly as they are: a longer one is an error.
  int64_t max_length = 1024;
  /// Shuffle every epoch by (seed, epoch); false keeps file order.
  bool shuffle = true;
  /// Renames columns: our name -> the file's name, e.g. {chosen: preferred}; fields inside `completions` as well.
  std::map<std::string, std::string> columns;

  static std::span<const Key> keys();
};

}  // namespace fpdist::data
