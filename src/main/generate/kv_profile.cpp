#include "src/main/generate/kv_profile.hpp"

#include <nlohmann/json.hpp>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::main_program {
namespace {

constexpr int kDepth = 2;

}  // namespace

void write_kv_profile(const std::string& path, const generate::PrefixKvOptions& options,
                      const generate::GenerationReport& report) {
  check<DataError>(report.chosen_prompts > 0, "--write_kv_profile ", path,
                   ": no prompt has rows that no other one has, of which layers could drop some: give others");
  std::vector<double> means = report.dropped;
  for (double& share : means) share /= static_cast<double>(report.chosen_prompts);
  const nlohmann::ordered_json profile{{"budget", options.budget},
                                       {"start_size", options.start_size},
                                       {"prompts", report.chosen_prompts},
                                       {"dropped", means}};
  files::write(path, profile.dump(2) + "\n");
}

std::vector<double> read_kv_profile(const std::string& path, generate::PrefixKvOptions& options) {
  const nlohmann::json profile = files::parse_strict(files::read(path, files::kMaxJsonBytes), path, kDepth);
  const double asked = options.budget;
  std::vector<double> dropped;
  try {
    options.budget = profile.at("budget"), options.start_size = profile.at("start_size");
    dropped = profile.at("dropped").get<std::vector<double>>();
  } catch (const nlohmann::json::exception& error) {
    throw ModelFileError(text(path, ": is no profile of --write_kv_profile: ", error.what()));
  }
  check<ModelFileError>(options.is_on() && !dropped.empty(), path,
                        ": is no profile of --write_kv_profile: it drops nothing");
  for (const double share : dropped)
    check<ModelFileError>(share >= 0 && share <= 1, path, ": dropped has a share of ", share,
                          ": each is between 0 and 1");
  check<ConfigError>(asked == 1 || asked == options.budget, "eval.kv_budget is ", asked, ", and ", path, " is for ",
                     options.budget, ": leave it out, or make a profile for it");
  return dropped;
}

}  // namespace fpdist::main_program
