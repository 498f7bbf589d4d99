#pragma once
// trainer (private): groups that a caller made, looked at before anything is done with them.

#include <span>

#include "fpdist/arch/model.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/loss/spec.hpp"

namespace fpdist::trainer {

/// Throws DataError, naming group, sample and field, for a group without samples, targets or log-probs of another
/// length than the tokens, a prompt longer than its sample, tokens or targets outside the vocabulary, and more tokens
/// than the model has positions. `shape`: what the loss makes of a group; pairs have two samples.
/// A loss that reads verdicts wants a reward of 1 or 0 of every sample.
void check_groups(std::span<const data::Group> groups, const arch::Model& model, loss::GroupShape shape,
                  const loss::Needs& needs = {});

}  // namespace fpdist::trainer
