#pragma once
// data: rows read one after the other by whoever does not want all groups in memory.

#include <cstdint>
#include <vector>

#include "fpdist/data/reader.hpp"
#include "src/data/rows/grouping.hpp"

namespace fpdist::data {

/// What is known of rows whose groups have gone elsewhere.
struct ReadRows {
  Dataset facts;               ///< without groups
  std::vector<int64_t> first;  ///< [rows] what join_rows makes groups by; empty: each row is a group
};

/// Whether rows have to be joined to groups when all are read.
bool joins_rows(const DataOptions& options, Method method);

/// read_dataset whose groups go to `sink`, a row's as it is read, and are not kept.
ReadRows read_groups(const DataOptions& options, Method method, Tokenizer& tokenizer, LogSink& log,
                     const ReadWatch& watch, const GroupSink& sink);

}  // namespace fpdist::data
