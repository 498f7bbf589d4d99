#include "src/plan/costs/costs_file.hpp"

#include <array>
#include <charconv>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"
#include "src/plan/costs/flat_file.hpp"

namespace fpdist::plan {
namespace {

using CostField = int64_t StageCosts::*;
constexpr std::array<std::pair<std::string_view, CostField>, 10> kFields{
    {{"layers", &StageCosts::layers},
     {"per_row", &StageCosts::per_row},
     {"forward_pair", &StageCosts::forward_pair},
     {"backward_pair", &StageCosts::backward_pair},
     {"per_edge", &StageCosts::per_edge},
     {"overhead_rows", &StageCosts::overhead_rows},
     {"per_link", &StageCosts::per_link},
     {"per_link_row", &StageCosts::per_link_row},
     {"weight_permille", &StageCosts::weight_permille},
     {"head_weight_permille", &StageCosts::head_weight_permille}}};
/// Sums over millions of rows and their pairs must stay within int64.
constexpr int64_t kMost = 100'000'000;

struct CostsFile {
  StageCosts costs;
  double seconds_per_unit = 0;
};

constexpr std::string_view kSeconds = "seconds_per_unit";

void set(CostsFile& file, std::string_view key, std::string_view value, const std::string& place) {
  StageCosts& costs = file.costs;
  if (key == kSeconds) {
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), file.seconds_per_unit);
    check<ConfigError>(error == std::errc() && end == value.data() + value.size() && file.seconds_per_unit > 0 &&
                           file.seconds_per_unit < 1,
                       place, key, " is '", value, "': use a number above 0 and below 1");
    return;
  }
  if (key == "recompute") {
    check<ConfigError>(value == "true" || value == "false", place, "recompute is '", value, "': use true or false");
    costs.recompute = value == "true";
    return;
  }
  std::string known;
  for (const auto& [name, field] : kFields) {
    known += std::string(name) + ", ";
    if (name != key) continue;
    int64_t number = -1;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    check<ConfigError>(error == std::errc() && end == value.data() + value.size() && number >= 0 && number <= kMost,
                       place, key, " is '", value, "': use a whole number from 0 to ", kMost);
    costs.*field = number;
    return;
  }
  throw ConfigError(text(place, "unknown key '", key, "': use ", known, kSeconds, ", recompute"));
}

CostsFile parse(const std::string& text_of_file, const std::string& name) {
  CostsFile file;
  parse_flat(text_of_file, name, [&](std::string_view key, std::string_view value, const std::string& place) {
    set(file, key, value, place);
  });
  check<ConfigError>(file.costs.layers >= 1 && file.costs.per_row >= 1, name, ": layers and per_row must be 1 or more");
  return file;
}

CostsFile read(const std::string& path) { return parse(read_flat(path, "cost file", "check plan.costs"), path); }

}  // namespace

StageCosts parse_costs(const std::string& text_of_file, const std::string& name) {
  return parse(text_of_file, name).costs;
}

StageCosts read_costs(const std::string& path) { return read(path).costs; }

double read_seconds_per_unit(const std::string& path) { return read(path).seconds_per_unit; }

std::string to_text(const StageCosts& costs, const std::string& comment, double seconds_per_unit) {
  std::string result;
  std::istringstream lines(comment);
  for (std::string line; std::getline(lines, line);) result += text("# ", line, "\n");
  for (const auto& [name, field] : kFields) result += text(name, ": ", costs.*field, "\n");
  if (seconds_per_unit > 0) {
    char shortest[32];
    const auto [end, error] = std::to_chars(shortest, shortest + sizeof shortest, seconds_per_unit);
    result += text(kSeconds, ": ", std::string_view(shortest, end), "\n");
  }
  return result + (costs.recompute ? "recompute: true\n" : "recompute: false\n");
}

void write_costs(const StageCosts& costs, const std::string& comment, const std::string& path,
                 double seconds_per_unit) {
  files::write(path, to_text(costs, comment, seconds_per_unit));
}

void check_costs_fit(const StageCosts& costs, int64_t model_layers, const std::string& path) {
  check<ConfigError>(costs.layers == model_layers, path, " is for a model of ", costs.layers, " layers, this one has ",
                     model_layers, ": give a cost file of this model (layers: ", model_layers,
                     "), or none to count its operations");
}

StageCosts costs_of_model(const arch::ModelShape& model, bool recompute, const std::string& path) {
  if (path.empty()) return stage_costs(model, recompute);
  StageCosts costs = read_costs(path);
  check_costs_fit(costs, model.layers, path);
  costs.recompute = recompute;
  return costs;
}

}  // namespace fpdist::plan
