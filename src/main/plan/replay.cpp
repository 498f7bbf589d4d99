#include "src/main/plan/replay.hpp"

#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"

namespace fpdist::main_program {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;

}  // namespace

Replay read_replay(const std::string& path) {
  try {
    const auto json = nlohmann::json::parse(files::read(path, kMostBytes));
    return {.step = json.at("step"), .why = json.at("why"), .config = json.at("config"), .hash = json.at("hash")};
  } catch (const nlohmann::json::exception&) {
    throw ConfigError(text("--replay ", path, " is no step-N.plan.json that a run wrote"));
  } catch (const ModelFileError& error) {
    throw ConfigError(text("--replay: ", error.what()));
  }
}

void check_replay(const Replay& replay, uint64_t hash) {
  check<ConfigError>(replay.hash == hash, "--replay: step ", replay.step, " is planned otherwise here (hash ", hash,
                     ", in the run ", replay.hash,
                     "): the files beside it were changed, or another version wrote them");
}

}  // namespace fpdist::main_program
