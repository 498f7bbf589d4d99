#pragma once
// data: where the text worker stands.

#include <string>
#include <vector>

#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {

/// What starts a text worker. Its folder is share/fpdist/text beside the bin or lib folder that this code was loaded
/// from, in a build tree as where it was installed. Throws DataError where that is missing.
std::vector<std::string> worker_command(const TextWorkerOptions& options);

/// What writes the rows of the table `path` as JSON lines, with `columns` of its own. From the same place.
std::vector<std::string> table_command(const std::string& path, const std::vector<std::string>& columns);

}  // namespace fpdist::data
