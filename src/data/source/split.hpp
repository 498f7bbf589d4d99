#pragma once
// data: a data set in two parts, one to train on and one to evaluate on.

#include <cstdint>

#include "fpdist/data/reader.hpp"

namespace fpdist::data {

struct SplitDataset {
  Dataset train, eval;
};

/// `fraction` (above 0, below 1) of the groups, drawn by `seed`, are `eval`; the same for the same data. Groups that
/// belong together come on one side: those of one unit (data.group_by), or without units those whose first samples have
/// the same prompt, the tokens ahead of what is learned. Both sides keep the order of the data and count their groups
/// anew from 0; no more are drawn than were asked for, but for a prompt that alone has more. Throws ConfigError where
/// one side would be empty.
SplitDataset split_dataset(Dataset dataset, double fraction, uint64_t seed);

}  // namespace fpdist::data
