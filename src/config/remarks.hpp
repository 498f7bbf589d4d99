#pragma once
// config: what is worth a warning ahead of the first step: settings that run and are hardly meant.

#include "fpdist/config/settled.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/loader.hpp"

namespace fpdist::config {

/// Not collective; for one rank, as the first step is planned for it. Tells `log` of a step that is larger than the
/// data, of a dtype that is not the checkpoint's, of a schedule without a pipeline, of pipeline stages without layers,
/// and of pipelines whose simulated step is no faster than that of fewer stages. `loader` is of `dataset`.
void remark(const Settled& job, const data::Dataset& dataset, const data::Loader& loader, LogSink& log);

}  // namespace fpdist::config
