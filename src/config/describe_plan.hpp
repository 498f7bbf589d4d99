#pragma once
// config: the text of --plan.

#include <functional>
#include <string>

#include "fpdist/arch/model.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/core/log.hpp"

namespace fpdist::config {

/// Changes the model to what its weights say beyond config.json.
using FitModel = std::function<void(arch::Model&)>;

/// Not collective, trains nothing: what `--plan` prints for a job of `ranks` ranks: sharing, packs, balance and memory
/// a rank. Of a run that makes its own rollouts, prompts as they are and completions as long as they may get.
/// `config` has passed validate. Reads config.json and the data, no weights, of which `fit` knows where
/// somebody has opened them; throws what they throw.
std::string describe_plan(const Config& config, int ranks, LogSink& log, const FitModel& fit = {});

}  // namespace fpdist::config
