#include "src/arch/end_tokens.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "src/files/files.hpp"

namespace fpdist::arch {

std::set<int64_t> end_tokens(const std::string& directory) {
  using Json = nlohmann::json;
  std::set<int64_t> ends;
  for (const char* name : {"/config.json", "/generation_config.json"}) {
    std::error_code unknown;
    if (!std::filesystem::exists(directory + name, unknown)) continue;
    const Json root = Json::parse(files::read(directory + name, files::kMaxJsonBytes), nullptr, /*exceptions=*/false);
    if (!root.is_object() || !root.contains("eos_token_id")) continue;
    const Json& found = root["eos_token_id"];
    for (const Json& id : found.is_array() ? found : Json::array({found}))
      if (id.is_number_integer()) ends.insert(id.get<int64_t>());
  }
  return ends;
}

}  // namespace fpdist::arch
