#pragma once
// data: which files are meant.

#include <string>
#include <vector>

namespace fpdist::data {

/// The files that data.path names: a file as it is; a pattern (*, ?, [..]) and a folder (its .jsonl, .json, .jsonl.gz
/// and .jsonl.zst) the files there in the order of their names. Throws DataError for a pattern or folder without any.
std::vector<std::string> data_files(const std::vector<std::string>& paths);

}  // namespace fpdist::data
