#pragma once
// main: fpdist_export's work.

#include <string>

#include "src/main/export/export_request.hpp"

namespace fpdist::main_program {

/// Does it and returns a line that says what is there now. Throws ConfigError for an output folder that holds anything
/// or would be written over the input, ModelFileError for an input that is damaged or lacks something, DiskError.
std::string export_model(const ExportRequest& request);

}  // namespace fpdist::main_program
