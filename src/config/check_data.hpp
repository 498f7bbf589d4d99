#pragma once
// config: whether a data set can be trained on, asked before anything is written.

#include "fpdist/arch/model.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/data/reader.hpp"

namespace fpdist::config {

/// Throws DataError, naming the first row and how many there are, for tokens outside the vocabulary and for samples
/// longer than the model's positions.
void check_tokens(const data::Dataset& dataset, const arch::Model& model);

/// Throws ConfigError with the smallest change that holds every row: where a group needs more rows than pack.max_tokens
/// (the first such row, how many, what the largest needs), and where a step of the run has no packs that keep to
/// pack.max_in_flight.
void check_packs(const data::Dataset& dataset, const Settled& job);
/// The same for what is evaluated on: its groups in order, train.groups_per_step at a time.
void check_evaluation_packs(const data::Dataset& dataset, const Settled& job);

}  // namespace fpdist::config
