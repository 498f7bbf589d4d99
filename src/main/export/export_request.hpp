#pragma once
// main: what fpdist_export is asked for.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fpdist/core/dtype.hpp"

namespace fpdist::main_program {

struct ExportRequest {
  std::string from, to;
  std::optional<DType> dtype;  ///< none: auto
  int64_t max_shard_bytes = 0;
  std::string base = {};    ///< of an adapter that is merged or turned; "": the one that it names
  std::string prefix = {};  ///< of an adapter with several, the one that is wanted; "": all
  bool merge = false, ntk = false, to_checkpoint = false, help = false, version = false;
};

/// Throws ConfigError for what cannot be understood.
ExportRequest parse_export_request(const std::vector<std::string>& arguments);

}  // namespace fpdist::main_program
