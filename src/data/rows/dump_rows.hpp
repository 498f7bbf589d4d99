#pragma once
// data: groups as rows of token ids.

#include <span>
#include <string>

#include "fpdist/core/method.hpp"
#include "fpdist/data/sample.hpp"

namespace fpdist::data {

/// One JSON line a group, which read_dataset reads back to the same groups: input_ids and labels (a line a
/// sample), prompt_ids, chosen_ids and rejected_ids (and rejected_prompt_ids, where data.truncation_mode keep_end cut
/// the prompt of one answer more than the other's), prompt_ids, completion_ids and label (a line a sample), or
/// prompt_ids and completions. What rows say besides (margins, rewards, log-probs, weights, cuts) goes with them, and
/// the name of their source where `sources` has it (DataOptions::sources), and the context that they have. Throws
/// DiskError.
void dump_rows(std::span<const Group> groups, Method method, const std::string& path,
               std::span<const std::string> sources = {});

}  // namespace fpdist::data
