#pragma once
// loss (private): what the header of a loss is written with. No torch: the planning half reads these headers for their
// specs, and links none of the functions they declare.

#include <string>
#include <string_view>
#include <vector>

#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/step_plan.hpp"

namespace fpdist::loss {

struct Edges;
struct LossOutput;
struct View;

/// A loss: one pack's edges to its share of the step's loss. `options` are resolved.
using Function = LossOutput(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options);

/// What the loss takes down of a pack ahead of the step, where its Needs::step says that it does.
using LookFunction = View(const Edges& edges, const LossOptions& options);

/// Throws ConfigError unless `value` is one of `known`, the first of which stands in for an empty one.
void settle_name(std::string& value, std::string_view key, Method method, const std::vector<std::string_view>& known);

/// Puts `standard` in place of -1; throws ConfigError unless the number is finite and not negative.
void settle_number(double& value, std::string_view key, double standard);

}  // namespace fpdist::loss
