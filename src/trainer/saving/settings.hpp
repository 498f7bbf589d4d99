#pragma once
// trainer (private): which of a run's settings decide what training computes, so that one that goes on with others can
// be told. A new key counts among them until it is listed as free.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/config/config.hpp"
#include "fpdist/core/log.hpp"

namespace fpdist::trainer {

/// Key ("train.seed") to its value as YAML has it.
using Settings = std::map<std::string, std::string>;

/// Keys of `section` ("data."), or of all but those of `data`, which are no matter of the trainer's, for "".
Settings settings_of(const config::Config& config, std::string_view section = "");

/// "train.seed: 0 -> 1", a line each, of keys that both have: those that change results.
std::vector<std::string> changed_results(const Settings& before, const Settings& now);

/// Throws ConfigError naming what has changed in `directory`'s run since; a warning to `log` instead where `anyway`.
/// Nothing where nothing has. `what`: "settings that change results".
void refuse_changes(const std::vector<std::string>& changed, std::string_view what, const std::string& directory,
                    bool anyway, LogSink& log);

}  // namespace fpdist::trainer
