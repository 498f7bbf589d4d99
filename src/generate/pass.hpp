#pragma once
// generate: rows through a model's runs of layers, each on its rank.

#include <ATen/core/Tensor.h>

#include <span>

#include "fpdist/generate/stages.hpp"
#include "fpdist/model/kept_keys.hpp"

namespace fpdist::generate {

/// What comes out of this rank's last run (model::Transformer::extend); `kept`: of each of its runs. Collective over
/// the model's ranks.
at::Tensor pass(const Stages& stages, const parallel::RowsHere& rows, std::span<model::KeptKeys> kept);

}  // namespace fpdist::generate
