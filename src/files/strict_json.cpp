#include "src/files/strict_json.hpp"

#include <set>
#include <vector>

#include "fpdist/core/error.hpp"

namespace fpdist::files {

nlohmann::json parse_strict(std::string_view text, const std::string& where, int max_depth) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, Event event, nlohmann::json& value) {
    check<ModelFileError>(depth <= max_depth, where, ": JSON nested deeper than ", max_depth, " levels");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key) {
      const auto& key = value.get_ref<const std::string&>();
      check<ModelFileError>(keys.back().insert(key).second, where, ": \"", key, "\" is given twice");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (const nlohmann::json::exception& error) {
    throw ModelFileError(fpdist::text(where, ": not valid JSON: ", error.what()));
  }
}

}  // namespace fpdist::files
