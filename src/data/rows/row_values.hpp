#pragma once
// data: what rows of token ids and of text say alike of their completions, besides what these are.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fpdist/data/sample.hpp"
#include "src/data/rows/format.hpp"
#include "src/data/rows/row.hpp"

namespace fpdist::data {

/// [completions] 1 where the row says that the sampler cut the completion. Throws DataError where it says it twice, or
/// for another number of completions.
std::vector<int32_t> cuts_of(const Row& row, const GroupMaker& maker, size_t completions);

/// The row's uid where rows are grouped by it, "" otherwise. Throws DataError where it has none.
std::string uid_of(const Row& row, const GroupMaker& maker);

/// Fills the ref_logp of a pair whose row has ref_chosen_logps and ref_rejected_logps. `cut_here`: samples of `group`
/// that data.max_length cut, whose sums are not known. Throws DataError where the columns do not fit.
void set_reference_logps(const Row& row, const GroupMaker& maker, int64_t cut_here, Group& group);

/// 1 where the row's label says that its completion is wanted, 0 where not. Throws DataError where it says neither.
double verdict_of(const Row& row, const GroupMaker& maker);

/// What the row's loss is multiplied by: 1 without a weight. Throws DataError for a list.
double weight_of(const Row& row, const GroupMaker& maker);

/// Multiplies what is learned of `sample` by `weight` [tokens]: what has 0 is no target any more; where all else has 1
/// the sample keeps no weights.
void weigh(const std::vector<double>& weight, Sample& sample);
void weigh(double weight, Sample& sample);

/// Per-token values of a completion as values of the whole sample: 0 in the prompt.
std::vector<double> behind_prompt(size_t prompt, const std::vector<double>& values);

/// Throws DataError at `offset` unless `length` is `wanted`: "`what` has 2 entries, `of` has 3".
void check_length(const Row& row, size_t offset, size_t length, std::string_view what, size_t wanted,
                  std::string_view of);

}  // namespace fpdist::data
