#include "src/data/rows/grouping.hpp"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::data {
namespace {

using Prompt = std::vector<int32_t>;

/// [groups] number of the first group that each one belongs with.
std::vector<int64_t> firsts(const Grouping& grouping, const std::vector<Group>& groups) {
  std::vector<int64_t> first(groups.size());
  std::map<Prompt, int64_t> by_prompt;
  std::unordered_map<std::string, int64_t> by_uid;
  for (size_t i = 0; i < groups.size(); ++i) {
    const auto number = static_cast<int64_t>(i);
    if (grouping.by == GroupBy::kUid) {
      first[i] = by_uid.emplace(grouping.uid[i], number).first->second;
      continue;
    }
    const Sample& sample = groups[i].sample.front();
    const auto end = sample.token.begin() + static_cast<std::ptrdiff_t>(prompt_tokens(sample));
    first[i] = by_prompt.emplace(Prompt(sample.token.begin(), end), number).first->second;
  }
  return first;
}

void join(std::vector<int64_t> first, Dataset& dataset) {
  std::vector<Group>& groups = dataset.group;
  size_t kept = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (first[i] == static_cast<int64_t>(i)) {
      first[i] = static_cast<int64_t>(kept);  // where it goes; later ones look here
      if (kept != i) groups[kept] = std::move(groups[i]);
      dataset.place[kept] = dataset.place[i];
      groups[kept].id = static_cast<int64_t>(kept);
      ++kept;
      continue;
    }
    Group& with = groups[index(first[index(first[i])])];
    check<DataError>(with.sample[0].reward.has_value() == groups[i].sample[0].reward.has_value(),
                     "data.group_by: rows of one group have rewards and others advantages: give all of them alike");
    std::move(groups[i].sample.begin(), groups[i].sample.end(), std::back_inserter(with.sample));
  }
  groups.resize(kept);
  dataset.place.resize(kept);
}

}  // namespace

size_t prompt_tokens(const Sample& sample) {
  if (sample.prompt_length > 0) return index(sample.prompt_length);
  return index(std::find_if(sample.target.begin(), sample.target.end(), [](int32_t id) { return id != kIgnore; }) -
               sample.target.begin());
}

void group_rows(const Grouping& grouping, Dataset& dataset) {
  if (grouping.by == GroupBy::kRow) return;
  std::vector<int64_t> first = firsts(grouping, dataset.group);
  if (grouping.keeps_groups)
    dataset.unit = std::move(first);
  else
    join(std::move(first), dataset);
}

}  // namespace fpdist::data
