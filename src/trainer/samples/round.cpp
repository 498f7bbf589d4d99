#include "src/trainer/samples/round.hpp"

#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "fpdist/core/error.hpp"
#include "src/data/fields.hpp"

namespace fpdist::trainer {
namespace {

using Json = nlohmann::json;

constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();  // JSON has none and says null

template <typename Field>
Json json_of(const Field& field) {
  return field;
}
Json json_of(const std::optional<double>& field) { return field ? Json(*field) : Json(nullptr); }

template <typename Field>
void read(const Json& json, Field& field) {
  field = json.get<Field>();
}
void read(const Json& json, std::optional<double>& field) {
  if (!json.is_null()) field = json.get<double>();
}

/// Notes of an older checkpoint lack the fields that came later: these are as a new group has them.
template <typename Field>
void read_from(const Json& of, const char* name, Field& field) {
  if (const auto found = of.find(name); found != of.end()) read(*found, field);
}

}  // namespace

std::string to_json(const RolloutRound& round) {
  if (round.number < 0) return "{}";
  Json groups = Json::array();
  for (const data::Group& group : round.groups) {
    Json one{{"id", group.id}, {"samples", Json::array()}};
    data::each_field_of_group(group, [&](const char* name, const auto& field) { one[name] = json_of(field); });
    for (const data::Sample& sample : group.sample) {
      Json fields = Json::object();
      data::each_field_of_sample(sample, [&](const char* name, const auto& field) { fields[name] = json_of(field); });
      one["samples"].push_back(std::move(fields));
    }
    groups.push_back(std::move(one));
  }
  Json metrics = Json::object();
  for (const auto& [name, value] : round.metrics) metrics[name] = value;
  return Json{{"round", round.number}, {"groups", std::move(groups)}, {"metrics", std::move(metrics)}}.dump();
}

RolloutRound parse_round(const std::string& text_of_round, const std::string& where) {
  RolloutRound round;
  try {
    const Json json = Json::parse(text_of_round);
    if (json.empty()) return round;
    for (const Json& one : json.at("groups")) {
      data::Group& group = round.groups.emplace_back();
      group.id = one.at("id");
      data::each_field_of_group(group, [&](const char* name, auto& field) { read_from(one, name, field); });
      for (const Json& fields : one.at("samples")) {
        data::Sample& sample = group.sample.emplace_back();
        (void)fields.at("token"), (void)fields.at("target");  // a sample without is none
        data::each_field_of_sample(sample, [&](const char* name, auto& field) { read_from(fields, name, field); });
      }
    }
    for (const auto& [name, value] : json.at("metrics").items())
      round.metrics[name] = value.is_null() ? kNoNumber : value.get<double>();
    round.number = json.at("round");
  } catch (const Json::exception& error) {
    throw ModelFileError(text(where, ": its notes on rollouts are none: ", error.what()));
  }
  return round;
}

}  // namespace fpdist::trainer
