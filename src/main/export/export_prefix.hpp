#pragma once
// main: one of an adapter's prefixes by source or context, as a directory that PEFT loads.

#include <string>

#include "src/main/export/export_request.hpp"

namespace fpdist::main_program {

/// Writes the prefix `request.prefix` of the adapter, and what is trained beside it; returns a line that says so.
/// By context it is a list of numbers, [0.5, -1], of which the adapter's MLP makes the prefix. Throws ConfigError for a
/// value that the adapter has no prefix of, ModelFileError for what is no such adapter.
std::string export_prefix(const ExportRequest& request);

}  // namespace fpdist::main_program
