#pragma once
// generate: rows through a model's runs of layers, each on its rank.

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/generate/stages.hpp"
#include "fpdist/model/kept_keys.hpp"

namespace fpdist::generate {

/// Messages under way.
using Sent = std::vector<std::unique_ptr<comm::Work>>;
/// Returns when all are done; then none is left.
void wait_for(Sent& sent);

/// What comes out of this rank's last run (model::Transformer::extend); `kept`: of each of its runs. What other ranks
/// go on with is on its way to them when this returns, and added to `sent`. Collective over the model's ranks.
at::Tensor pass(const Stages& stages, const parallel::RowsHere& rows, std::span<model::KeptKeys> kept, Sent& sent);

}  // namespace fpdist::generate
