#include "src/data/rows/dump_rows.hpp"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "src/data/rows/step_row.hpp"
#include "src/files/files.hpp"

namespace fpdist::data {
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

Json prompt_of(const Sample& sample) {
  return list_of(std::span(sample.token).first(static_cast<size_t>(sample.prompt_length)));
}

bool any_cut(const Group& group) {
  return std::any_of(group.sample.begin(), group.sample.end(), [](const Sample& one) { return one.truncated; });
}

Json sample_row(const Sample& sample) {
  Json row{{"input_ids", sample.token}, {"labels", sample.target}};
  if (!sample.weight.empty()) row["weight"] = sample.weight;
  if (sample.truncated) row["truncated"] = true;
  return row;
}

Json pair_row(const Group& group) {
  const Sample &chosen = group.sample[0], &rejected = group.sample[1];
  const Json prompt = prompt_of(chosen), rejected_prompt = prompt_of(rejected);
  Json row{{"prompt_ids", prompt},
           {"chosen_ids", list_of(behind(chosen.token, chosen.prompt_length))},
           {"rejected_ids", list_of(behind(rejected.token, rejected.prompt_length))}};
  if (rejected_prompt != prompt) row["rejected_prompt_ids"] = rejected_prompt;
  if (group.margin) row["margin"] = *group.margin;
  if (group.weight) row["weight"] = *group.weight;
  if (any_cut(group)) row["truncated"] = {chosen.truncated, rejected.truncated};
  if (!chosen.ref_logp.empty()) row["ref_chosen_logps"] = list_of(behind(chosen.ref_logp, chosen.prompt_length));
  if (!rejected.ref_logp.empty())
    row["ref_rejected_logps"] = list_of(behind(rejected.ref_logp, rejected.prompt_length));
  return row;
}

Json completion_of(const Sample& sample) {
  const int32_t prompt = sample.prompt_length;
  Json one{{"ids", list_of(behind(sample.token, prompt))}};
  if (sample.reward) one["reward"] = *sample.reward;
  if (sample.advantage) one["advantage"] = *sample.advantage;
  if (!sample.old_logp.empty()) one["old_logps"] = list_of(behind(sample.old_logp, prompt));
  if (!sample.ref_logp.empty()) one["ref_logps"] = list_of(behind(sample.ref_logp, prompt));
  if (!sample.weight.empty()) one["weight"] = list_of(behind(sample.weight, prompt));
  const auto targets = behind(sample.target, prompt);
  if (std::count(targets.begin(), targets.end(), kIgnore) > 0) {
    std::vector<int> mask;
    for (const int32_t id : targets) mask.push_back(id != kIgnore);
    one["mask"] = mask;
  }
  if (sample.truncated) one["truncated"] = true;
  if (sample.prefix_length > 0) one["prefix_length"] = sample.prefix_length;
  return one;
}

Json verdict_row(const Sample& sample) {
  Json row{{"prompt_ids", prompt_of(sample)},
           {"completion_ids", list_of(behind(sample.token, sample.prompt_length))},
           {"label", sample.reward.value_or(0) > 0}};
  if (sample.truncated) row["truncated"] = true;
  return row;
}

Json rollouts_row(const Group& group) {
  Json completions = Json::array();
  for (const Sample& sample : group.sample) completions.push_back(completion_of(sample));
  return {{"prompt_ids", prompt_of(group.sample.front())}, {"completions", completions}};
}

}  // namespace

void dump_rows(std::span<const Group> groups, Method method, const std::string& path,
               std::span<const std::string> sources) {
  files::AtomicFile file(path);
  const Group* of = nullptr;
  const auto put = [&](Json row) {
    if (of->source >= 0 && of->source < std::ssize(sources)) row["source"] = sources[static_cast<size_t>(of->source)];
    if (!of->prefix_context.empty()) row["context"] = of->prefix_context;
    const std::string line = row.dump() + "\n";
    file.append(line.data(), line.size());
  };
  for (const Group& group : groups) {
    of = &group;
    if (method == Method::kSft) {
      for (const Sample& sample : group.sample) put(sample_row(sample));
    } else if (method == Method::kPrm) {
      for (const Sample& sample : group.sample) put(sample_row(to_labels(sample)));
    } else if (method == Method::kKto) {
      for (const Sample& sample : group.sample) put(verdict_row(sample));
    } else {
      put(method == Method::kGrpo ? rollouts_row(group) : pair_row(group));
    }
  }
  file.commit();
}

}  // namespace fpdist::data
