// Which loss options a method has, and what stands in for those that are left out. Needs no tensors.

#include "fpdist/loss/options.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <string_view>

#include "fpdist/core/error.hpp"

namespace fpdist::loss {
namespace {

constexpr double kUnset = -1.0;

/// Checks that `value` is one of `known`, the first of which stands in for an empty one.
void resolve_name(std::string& value, std::string_view key, Method method,
                  std::initializer_list<std::string_view> known) {
  if (value.empty()) value = *known.begin();
  if (std::find(known.begin(), known.end(), value) != known.end()) return;
  std::string names;
  for (const std::string_view name : known) names += text(names.empty() ? "" : " | ", name);
  throw ConfigError(
      text("loss.", key, " '", value, "' is unknown for method ", name_of(method), ": this version has ", names));
}

void resolve_number(double& value, std::string_view key, double standard) {
  if (value == kUnset) value = standard;
  check<ConfigError>(std::isfinite(value) && value >= 0, "loss.", key, " is ", value,
                     ": use a finite number of 0 or more, or leave it out");
}

}  // namespace

LossOptions resolved(Method method, LossOptions options) {
  switch (method) {
    case Method::kSft:
      resolve_name(options.loss_type, "loss_type", method, {"nll"});
      break;
    case Method::kDpo:
      resolve_name(options.loss_type, "loss_type", method, {"sigmoid"});
      resolve_number(options.beta, "beta", 0.1);
      break;
    case Method::kReward:
      check<ConfigError>(options.loss_type.empty(), "loss.loss_type is '", options.loss_type,
                         "', but method reward has one loss only: leave it out");
      resolve_number(options.center_rewards_coefficient, "center_rewards_coefficient", 0.0);
      break;
    case Method::kGrpo:
      resolve_name(options.loss_type, "loss_type", method, {"dapo", "grpo", "dr_grpo"});
      resolve_name(options.importance_sampling_level, "importance_sampling_level", method, {"token", "sequence"});
      resolve_name(options.scale_rewards, "scale_rewards", method, {"group", "batch", "none"});
      resolve_number(options.beta, "beta", 0.0);
      resolve_number(options.epsilon, "epsilon", 0.2);
      resolve_number(options.epsilon_high, "epsilon_high", options.epsilon);
      check<ConfigError>(options.max_completion_length >= 1, "loss.max_completion_length is ",
                         options.max_completion_length, ": use 1 or more");
      break;
  }
  return options;
}

bool needs_reference(Method method, const LossOptions& options) {
  if (method == Method::kDpo) return true;
  return method == Method::kGrpo && resolved(method, options).beta != 0;
}

}  // namespace fpdist::loss
