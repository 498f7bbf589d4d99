#pragma once
// config: the text of --plan.

#include <string>

#include "fpdist/config/config.hpp"
#include "fpdist/core/log.hpp"

namespace fpdist::config {

/// Not collective, trains nothing: what `--plan` prints for a job of `ranks` ranks: sharing, packs, balance and memory
/// a rank. `config` has passed validate. Reads config.json and the data, no weights; throws what they throw.
std::string describe_plan(const Config& config, int ranks, LogSink& log);

}  // namespace fpdist::config
