#pragma once
// plan: StageCosts from a file, so that a plan can be repeated anywhere.

#include <string>

#include "fpdist/plan/stage_costs.hpp"

namespace fpdist::plan {

/// Costs from a file, a flat YAML mapping: one `key: value` a line, '#' begins a comment; the keys are the fields of
/// StageCosts, each at most once, absent ones keep their defaults. Throws ConfigError with file:line for an unknown or
/// repeated key, a value that is not a number of 0 or more (recompute: true or false), and a file that cannot be read.
StageCosts read_costs(const std::string& path);
StageCosts parse_costs(const std::string& text, const std::string& name);

/// How long a unit of the file's costs takes, its key seconds_per_unit, which calibration writes; 0: the file does not
/// say. It changes no plan. Throws as read_costs.
double read_seconds_per_unit(const std::string& path);

/// A cost file's text: parse_costs reads the same costs back. `comment`, of any number of lines, stands ahead.
std::string to_text(const StageCosts& costs, const std::string& comment = "", double seconds_per_unit = 0);

/// Writes to_text; throws DiskError.
void write_costs(const StageCosts& costs, const std::string& comment, const std::string& path,
                 double seconds_per_unit = 0);

/// Throws ConfigError when costs of one model are used for another.
void check_costs_fit(const StageCosts& costs, int64_t model_layers, const std::string& path);

/// Costs that a model is planned with: the file `path`, checked, or FLOP counts where it is empty. `recompute` is the
/// run's, whatever the file says.
StageCosts costs_of_model(const arch::ModelShape& model, bool recompute, const std::string& path);

}  // namespace fpdist::plan
