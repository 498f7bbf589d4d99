#include "fpdist/loss/spec.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/loss/losses.hpp"

namespace fpdist::loss {
namespace {

constexpr double kUnset = -1.0;

template <typename... Known>
constexpr std::array<LossSpec, sizeof...(Known)> specs_of(List<Known...>) {
  return {Known::kSpec...};
}
constexpr std::array kSpecs = specs_of(Losses());

/// At least one, which is empty where none is given.
std::vector<std::string> names_of(const LossOptions& options) {
  return options.loss_type.empty() ? std::vector<std::string>{""} : options.loss_type;
}

}  // namespace

std::span<const LossSpec> specs() { return kSpecs; }

std::string_view names_by_method() {
  static const std::string names = [] {
    std::string all;
    const LossSpec* last = nullptr;
    for (const LossSpec& spec : kSpecs) {
      if (spec.name.empty()) continue;
      if (last != nullptr && last->method == spec.method)
        all += text(" | ", spec.name);
      else
        all += text(all.empty() ? "" : "; ", name_of(spec.method), ": ", spec.name);
      last = &spec;
    }
    return all;
  }();
  return names;
}

const LossSpec& spec_of(Method method, const LossOptions& options) {
  std::vector<std::string_view> names;
  for (const LossSpec& spec : kSpecs)
    if (spec.method == method) names.push_back(spec.name);
  std::string first = names_of(options).front();
  for (std::string name : names_of(options)) {
    check<ConfigError>(name.empty() || !names.front().empty(), "loss.loss_type is '", name, "', but method ",
                       name_of(method), " has one loss only: leave it out");
    settle_name(name, "loss_type", method, names);
  }
  settle_name(first, "loss_type", method, names);
  return *std::find_if(kSpecs.begin(), kSpecs.end(),
                       [&](const LossSpec& spec) { return spec.method == method && spec.name == first; });
}

LossOptions resolved(Method method, LossOptions options) {
  const LossSpec& spec = spec_of(method, options);
  const bool is_list = method == Method::kDpo;  // TRL adds losses of pairs up, and no others
  check<ConfigError>(is_list || options.loss_type.size() < 2, "loss.loss_type lists ", options.loss_type.size(),
                     " losses, and method ", name_of(method), " takes one: dpo is the one that adds them up");
  check<ConfigError>(is_list || options.loss_weights.empty(), "loss.loss_weights weighs a list of losses, and method ",
                     name_of(method), " takes one: leave it out");
  if (names_of(options).front().empty()) options.loss_type = {std::string(spec.name)};
  if (spec.name.empty()) options.loss_type.clear();
  spec.check(options);
  return options;
}

Needs needs_of(Method method, const LossOptions& options) {
  const LossOptions known = resolved(method, options);
  return spec_of(method, known).needs(known);
}

void settle_name(std::string& value, std::string_view key, Method method, const std::vector<std::string_view>& known) {
  if (value.empty()) value = known.front();
  if (std::find(known.begin(), known.end(), value) != known.end()) return;
  std::string names;
  for (const std::string_view name : known) names += text(names.empty() ? "" : " | ", name);
  throw ConfigError(
      text("loss.", key, " '", value, "' is unknown for method ", name_of(method), ": this version has ", names));
}

void settle_number(double& value, std::string_view key, double standard) {
  if (value == kUnset) value = standard;
  check<ConfigError>(std::isfinite(value) && value >= 0, "loss.", key, " is ", value,
                     ": use a finite number of 0 or more, or leave it out");
}

}  // namespace fpdist::loss
