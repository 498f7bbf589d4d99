#include "src/generate/kv_profile.hpp"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::generate {
namespace {

constexpr int kDepth = 2;

/// "llama of 4 layers, hidden size 64, 4 heads on 2 of keys": what attention looks like in it.
std::string words_of(const arch::Model& model) {
  const arch::ModelShape shape = model.shape();
  return text(model.family, " of ", shape.layers, " layers, hidden size ", shape.hidden, ", ", shape.heads,
              " heads on ", shape.kv_heads, " of keys");
}

struct Profile {
  std::string model;
  double budget = 1;
  int64_t start_size = 0;
  std::vector<double> dropped;
};

Profile profile_in(const std::string& path) {
  const nlohmann::json json = files::parse_strict(files::read(path, files::kMaxJsonBytes), path, kDepth);
  Profile profile;
  try {
    profile.model = json.at("model"), profile.budget = json.at("budget");
    profile.dropped = json.at("dropped").get<std::vector<double>>();
    check<ModelFileError>(json.at("start_size").is_number_unsigned(), path, ": start_size is ",
                          json.at("start_size").dump(), ": a count of keys, 0 or more");
    profile.start_size = json.at("start_size");
  } catch (const nlohmann::json::exception& error) {
    throw ModelFileError(text(path, ": is no profile of --write_kv_profile: ", error.what()));
  }
  check<ModelFileError>(profile.budget > 0 && profile.budget <= 1, path, ": budget is ", profile.budget,
                        ": it is above 0 and 1 at most");
  check<ModelFileError>(profile.budget < 1 && !profile.dropped.empty(), path,
                        ": is no profile of --write_kv_profile: it drops nothing");
  for (const double share : profile.dropped)
    check<ModelFileError>(share >= 0 && share <= 1, path, ": dropped has a share of ", share,
                          ": each is between 0 and 1");
  return profile;
}

}  // namespace

std::string to_kv_profile(const arch::Model& model, const PrefixKvOptions& options, int64_t prompts,
                          std::span<const double> dropped) {
  check<DataError>(prompts > 0,
                   "--write_kv_profile: no prompt has rows that no other one has, of which layers could drop some: "
                   "give others");
  std::vector<double> means;
  for (const double sum : dropped) means.push_back(sum / static_cast<double>(prompts));
  const nlohmann::ordered_json profile{{"model", words_of(model)},
                                       {"budget", options.budget},
                                       {"start_size", options.start_size},
                                       {"prompts", prompts},
                                       {"dropped", means}};
  return profile.dump(2) + "\n";
}

void read_kv_profile(const std::string& path, const arch::Model& model, PrefixKvOptions& options) {
  Profile profile = profile_in(path);
  const std::string here = words_of(model);
  check<ConfigError>(profile.model == here && std::ssize(profile.dropped) == model.layer_count(), "eval.kv_profile ",
                     path, " is of ", profile.model, ", with shares of ", profile.dropped.size(),
                     " layers, and this model is ", here, ": make one with this model (--write_kv_profile)");
  const auto agree = [&](const char* key, auto asked, auto without, auto file) {
    check<ConfigError>(asked == without || asked == file, "eval.", key, " is ", asked, ", and ", path, " is for ", file,
                       ": leave it out, or make a profile for it");
  };
  agree("kv_budget", options.budget, PrefixKvOptions().budget, profile.budget);
  agree("kv_start_size", options.start_size, PrefixKvOptions().start_size, profile.start_size);
  options.budget = profile.budget, options.start_size = profile.start_size;
  options.dropped = std::move(profile.dropped);
}

}  // namespace fpdist::generate
