#pragma once
// config: a data set's groups as steps compute them, for who plans without a trainer.

#include <vector>

#include "fpdist/config/settled.hpp"
#include "src/data/virtual_tokens.hpp"

namespace fpdist::config {

/// Those whose embeddings the model's adapter trains; none where it trains none.
data::VirtualTokens virtual_tokens(const arch::Model& model);

/// Behind these, where there are any.
std::vector<data::Group> computed_groups(std::vector<data::Group> groups, const Settled& job);

}  // namespace fpdist::config
