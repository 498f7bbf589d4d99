#include "src/trainer/run/run_notes.hpp"

#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"

namespace fpdist::trainer {

void RunNotes::add(const StepMetrics& metrics) {
  tokens_logical += metrics.values.at("tokens_logical");
  tokens_computed += metrics.values.at("tokens_computed");
}

std::string to_json(const RunNotes& notes) {
  const DataMark& data = notes.data;
  return nlohmann::ordered_json{
      {"data",
       {{"groups", data.groups}, {"samples", data.samples}, {"order", data.order}, {"settings", data.settings}}},
      {"tokens_logical", notes.tokens_logical},
      {"tokens_computed", notes.tokens_computed},
      {"evaluation", nlohmann::ordered_json::parse(notes.evaluation)},
      {"samples", nlohmann::ordered_json::parse(notes.samples)}}
      .dump();
}

RunNotes parse_run_notes(const std::string& text_of_notes, const std::string& where) {
  try {
    const auto json = nlohmann::json::parse(text_of_notes);
    const nlohmann::json& data = json.at("data");
    return {.data = {.groups = data.at("groups"),
                     .samples = data.at("samples"),
                     .order = data.at("order"),
                     .settings = data.at("settings")},
            .tokens_logical = json.at("tokens_logical"),
            .tokens_computed = json.at("tokens_computed"),
            .evaluation = json.at("evaluation").dump(),
            .samples = json.value("samples", nlohmann::json::object()).dump()};
  } catch (const nlohmann::json::exception& error) {
    throw ModelFileError(text(where, ": its notes are not of a run over data (Trainer::train): ", error.what()));
  }
}

std::vector<std::string> changed_data(const DataMark& before, const DataMark& now) {
  const auto words = [](const DataMark& data) {
    return text(data.groups, " groups with the checksum ", data.samples.substr(0, 8));
  };
  std::vector<std::string> changed;
  if (before.samples.empty()) return changed;
  if (before.samples != now.samples)
    changed.push_back(text("the samples: ", words(before), " -> ", words(now)));
  else if (before.order != now.order)
    changed.push_back("the order in which an epoch goes through the same samples");
  else
    return {};
  for (const auto& [key, value] : now.settings)
    if (const auto old = before.settings.find(key); old != before.settings.end() && old->second != value)
      changed.push_back(text(key, ": ", old->second, " -> ", value));
  return changed;
}

}  // namespace fpdist::trainer
