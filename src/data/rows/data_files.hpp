#pragma once
// data: which files are meant.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fpdist::data {

/// The files that data.path names: a file as it is; a pattern (*, ?, [..]) and a folder (its .jsonl, .json, .jsonl.gz,
/// .jsonl.zst, .parquet, .arrow, .feather) the files there in the order of their names. Throws DataError for a pattern
/// or folder without any.
std::vector<std::string> data_files(const std::vector<std::string>& paths);

/// Whether the file is a table, Parquet or Arrow IPC, by its ending.
bool is_table(std::string_view path);

/// "pairs.jsonl:4", or "pairs.parquet: row 4".
std::string row_name(std::string_view file, int64_t row);

}  // namespace fpdist::data
