#pragma once
// data: rows read one after the other by whoever does not want all groups in memory.

#include <functional>

#include "fpdist/data/reader.hpp"

namespace fpdist::data {

using GroupSink = std::function<void(const Group&)>;

/// read_dataset whose groups go to `sink` in order and are not kept: the data set that is returned has none. For
/// data.group_by row alone: the others bring groups together when all are read.
Dataset read_groups(const DataOptions& options, Method method, Tokenizer& tokenizer, LogSink& log,
                    const ReadWatch& watch, const GroupSink& sink);

}  // namespace fpdist::data
