#include "src/main/prepare/dump_rows.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"

namespace fpdist::main_program {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
std::span<const T> behind(const std::vector<T>& values, int32_t prompt) {
  return std::span(values).subspan(static_cast<size_t>(prompt));
}

template <typename T>
Json list_of(std::span<const T> values) {
  return Json(std::vector<T>(values.begin(), values.end()));
}

Json prompt_of(const data::Sample& sample) {
  return list_of(std::span(sample.token).first(static_cast<size_t>(sample.prompt_length)));
}

bool any_cut(const data::Group& group) {
  return std::any_of(group.sample.begin(), group.sample.end(), [](const data::Sample& one) { return one.truncated; });
}

Json sample_row(const data::Sample& sample) {
  Json row{{"input_ids", sample.token}, {"labels", sample.target}};
  if (!sample.weight.empty()) row["weight"] = sample.weight;
  if (sample.truncated) row["truncated"] = true;
  return row;
}

Json pair_row(const data::Group& group) {
  const data::Sample &chosen = group.sample[0], &rejected = group.sample[1];
  const Json prompt = prompt_of(chosen);
  check<ConfigError>(prompt == prompt_of(rejected),
                     "a pair lost the start of its prompt, which rows of token ids cannot say: dump with "
                     "data.truncation_mode keep_start, or with a larger data.max_length");
  Json row{{"prompt_ids", prompt},
           {"chosen_ids", list_of(behind(chosen.token, chosen.prompt_length))},
           {"rejected_ids", list_of(behind(rejected.token, rejected.prompt_length))}};
  if (group.margin) row["margin"] = *group.margin;
  if (group.weight) row["weight"] = *group.weight;
  if (any_cut(group)) row["truncated"] = {chosen.truncated, rejected.truncated};
  if (!chosen.ref_logp.empty()) row["ref_chosen_logps"] = list_of(behind(chosen.ref_logp, chosen.prompt_length));
  if (!rejected.ref_logp.empty())
    row["ref_rejected_logps"] = list_of(behind(rejected.ref_logp, rejected.prompt_length));
  return row;
}

Json completion_of(const data::Sample& sample) {
  const int32_t prompt = sample.prompt_length;
  Json one{{"ids", list_of(behind(sample.token, prompt))}};
  if (sample.reward) one["reward"] = *sample.reward;
  if (sample.advantage) one["advantage"] = *sample.advantage;
  if (!sample.old_logp.empty()) one["old_logps"] = list_of(behind(sample.old_logp, prompt));
  if (!sample.ref_logp.empty()) one["ref_logps"] = list_of(behind(sample.ref_logp, prompt));
  if (!sample.weight.empty()) one["weight"] = list_of(behind(sample.weight, prompt));
  const auto targets = behind(sample.target, prompt);
  if (std::count(targets.begin(), targets.end(), data::kIgnore) > 0) {
    std::vector<int> mask;
    for (const int32_t id : targets) mask.push_back(id != data::kIgnore);
    one["mask"] = mask;
  }
  if (sample.truncated) one["truncated"] = true;
  return one;
}

Json rollouts_row(const data::Group& group) {
  Json completions = Json::array();
  for (const data::Sample& sample : group.sample) completions.push_back(completion_of(sample));
  return {{"prompt_ids", prompt_of(group.sample.front())}, {"completions", completions}};
}

}  // namespace

void dump_rows(const data::Dataset& dataset, Method method, const std::string& path) {
  files::AtomicFile file(path);
  const auto put = [&](const Json& row) {
    const std::string line = row.dump() + "\n";
    file.append(line.data(), line.size());
  };
  for (const data::Group& group : dataset.group) {
    if (method == Method::kSft) {
      for (const data::Sample& sample : group.sample) put(sample_row(sample));
    } else {
      put(method == Method::kGrpo ? rollouts_row(group) : pair_row(group));
    }
  }
  file.commit();
}

}  // namespace fpdist::main_program
