#include "src/trainer/saving/trainer_state.hpp"

#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::trainer {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr int kMaxDepth = 64;

Json planner_json(const PlannerState& planner) {
  return {{"costs", planner.costs},
          {"costs_version", planner.costs_version},
          {"steps_watched", planner.steps_watched},
          {"seconds_per_unit", planner.seconds_per_unit}};
}

PlannerState parse_planner(const nlohmann::json& json) {
  return {.costs = json.at("costs"),
          .costs_version = json.at("costs_version"),
          .steps_watched = json.at("steps_watched"),
          .seconds_per_unit = json.at("seconds_per_unit")};
}

}  // namespace

std::string to_json(const TrainerState& state) {
  const MeshShape& mesh = state.mesh;
  const Json json{{"format", kFormat},
                  {"step", state.step},
                  {"updates", state.updates},
                  {"tokens_seen", state.tokens_seen},
                  {"mesh", {{"dp", mesh.dp}, {"pp", mesh.pp}, {"cp", mesh.cp}, {"tp", mesh.tp}}},
                  {"libraries", state.libraries},
                  {"settings", state.settings},
                  {"planner", planner_json(state.planner)},
                  {"left_out", {{"steps", state.guard.skipped}, {"recent_norms", state.guard.recent_norms}}},
                  {"seen_tokens", state.seen_tokens},
                  {"notes", Json::parse(state.notes)}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

TrainerState parse_trainer_state(const std::string& text_of_state, const std::string& where) {
  const nlohmann::json json = files::parse_strict(text_of_state, where, kMaxDepth);
  try {
    const int format = json.at("format");
    check<ModelFileError>(format <= kFormat, where, ": format ", format, " is newer than this program's, ", kFormat,
                          ": go on with the program that saved it");
    const nlohmann::json& mesh = json.at("mesh");
    return {
        .step = json.at("step"),
        .updates = json.at("updates"),
        .tokens_seen = json.at("tokens_seen"),
        .mesh = {.dp = mesh.at("dp"), .pp = mesh.at("pp"), .cp = mesh.at("cp"), .tp = mesh.at("tp")},
        .libraries = json.at("libraries"),
        .settings = json.at("settings"),
        .planner = parse_planner(json.at("planner")),
        .guard = {.recent_norms = json.at("left_out").at("recent_norms"), .skipped = json.at("left_out").at("steps")},
        .seen_tokens = json.at("seen_tokens"),
        .notes = json.at("notes").dump()};
  } catch (const nlohmann::json::exception& error) {
    throw ModelFileError(text(where, ": ", error.what()));
  }
}

}  // namespace fpdist::trainer
