#pragma once
// main: data that the project makes itself.

#include <string>
#include <vector>

namespace fpdist::main_program {

/// fpdist_prepare --generate ...: writes made-up rows. Throws ConfigError, DataError, DiskError.
void generate_data(const std::vector<std::string>& arguments);

}  // namespace fpdist::main_program
