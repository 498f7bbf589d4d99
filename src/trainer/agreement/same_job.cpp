#include "src/trainer/agreement/same_job.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/comm/agreement.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/core/builds.hpp"
#include "src/core/checksum.hpp"
#include "src/plan/costs/costs_file.hpp"

namespace fpdist::trainer {
namespace {

template <typename ErrorType>
void check_same(const std::vector<comm::Fact>& facts, comm::Communicator& world, const std::string& what,
                std::string_view cure) {
  const auto differences = comm::find_differences(facts, world);
  if (differences.empty()) return;
  throw ErrorType(
      text(comm::broadcast_text(what, 0, world), ":\n", comm::to_text(differences), "\n", cure));  // rank 0's for all
}

std::vector<comm::Fact> keys_of(const config::Config& config) {
  std::vector<comm::Fact> facts;
  for (auto& [key, value] : config::key_values(config)) facts.push_back({std::move(key), std::move(value)});
  return facts;
}

/// plan::to_text's lines, one a field.
std::vector<comm::Fact> costs_of(const plan::StageCosts& costs) {
  std::vector<comm::Fact> facts;
  std::istringstream lines(plan::to_text(costs));
  for (std::string line; std::getline(lines, line);)
    if (const size_t colon = line.find(": "); colon != std::string::npos)
      facts.push_back({"plan.costs: " + line.substr(0, colon), line.substr(colon + 2)});
  return facts;
}

/// Whoever needs a directory that is not there says so.
void add_companions(const std::string& directory, std::vector<comm::Fact>& facts) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored)) return;
  for (const std::string& name : checkpoint::companion_names(directory)) {
    const std::string bytes = checkpoint::read_companion(directory, name);
    facts.push_back({name, text("checksum ", to_string(Checksum().add(bytes.data(), bytes.size()).value()))});
  }
}

}  // namespace

void check_same_options(const config::Config& given, comm::Communicator& world) {
  std::vector<comm::Fact> builds;
  for (Build& build : loaded_builds()) builds.push_back({std::move(build.name), std::move(build.id)});
  check_same<ConfigError>(builds, world, "the ranks run different builds",
                          "install one build on every node (launch/bundle.sh packs one)");
  check_same<ConfigError>(keys_of(given), world, "the ranks were given different options",
                          "start every rank with the same file and the same command line");
}

void check_same_model(const config::Settled& job, comm::Communicator& world) {
  const std::string &model = job.config.model.path, &tokenizer = job.config.data.tokenizer;
  if (!model.empty()) {
    const auto config_json = nlohmann::json::parse(job.model.json);
    std::vector<comm::Fact> facts;
    for (const auto& [field, value] : config_json.items()) facts.push_back({"config.json: " + field, value.dump()});
    add_companions(model, facts);
    check_same<ModelFileError>(facts, world, text(model, " holds different files on the ranks' nodes"),
                               "copy one of them to every node");
  }
  if (tokenizer.empty() || tokenizer == "bytes") return;
  std::vector<comm::Fact> facts;
  add_companions(tokenizer, facts);
  check_same<ModelFileError>(facts, world, text("data.tokenizer ", tokenizer, " is not the same on the ranks' nodes"),
                             "copy one of them to every node");
}

void check_same_settled(const config::Settled& job, comm::Communicator& world) {
  check_same<ConfigError>(costs_of(job.costs), world, "the ranks plan with different costs",
                          "copy one plan.costs file to every node");
  check_same<ConfigError>(keys_of(job.config), world, "the ranks' options came to different values",
                          "give every rank a device of the same kind, or set model.device");
}

}  // namespace fpdist::trainer
