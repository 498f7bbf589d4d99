#pragma once
// main: one of an adapter's prefixes by source, as a directory that PEFT loads.

#include <string>

#include "src/main/export/export_request.hpp"

namespace fpdist::main_program {

/// Writes the prefix `request.prefix` of the adapter, and what is trained beside it; returns a line that says so.
/// Throws ConfigError for a value that the adapter has no prefix of, ModelFileError for what is no such adapter.
std::string export_prefix(const ExportRequest& request);

}  // namespace fpdist::main_program
