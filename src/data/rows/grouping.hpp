#pragma once
// data: rows that belong together, by what they say.

#include <string>
#include <vector>

#include "fpdist/data/options.hpp"
#include "fpdist/data/reader.hpp"

namespace fpdist::data {

/// How the groups of a data set are brought together, and what each row is called by where that is by uid.
struct Grouping {
  GroupBy by = GroupBy::kRow;
  bool keeps_groups = false;     ///< pairs: a group is a pair and stays one
  std::vector<std::string> uid;  ///< [groups] with GroupBy::kUid
};

/// Joins the samples of groups with the same prompt tokens or uid into the first of them; ids are numbered anew. Where
/// groups stay (pairs) Dataset::unit says which belong together instead. Does nothing for GroupBy::kRow. Throws
/// DataError where rewards and advantages would come into one group.
void group_rows(const Grouping& grouping, Dataset& dataset);

/// Tokens ahead of a sample's first target: its prompt, however its row said so.
size_t prompt_tokens(const Sample& sample);

}  // namespace fpdist::data
