#pragma once
// config: a data set's groups as steps compute them, for who plans without a trainer.

#include <cstdint>
#include <vector>

#include "fpdist/config/settled.hpp"
#include "src/data/virtual_tokens.hpp"

namespace fpdist::config {

/// Those that stand as rows ahead of samples, of the model's adapter; none where it has none.
data::VirtualTokens virtual_tokens(const Settled& job);

/// Behind these, where there are any. `step`: the number of their step, from 1; 0: of none.
std::vector<data::Group> computed_groups(std::vector<data::Group> groups, const Settled& job, int64_t step);

}  // namespace fpdist::config
