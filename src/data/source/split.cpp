#include "src/data/source/split.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/checksum.hpp"
#include "src/core/index.hpp"

namespace fpdist::data {
namespace {

/// Keeps the draws apart from every other use of the same seed.
constexpr uint64_t kSplitStream = uint64_t{0x5b117} << 40;

using Ids = std::vector<int64_t>;

/// Tokens ahead of what is learned.
std::span<const int32_t> prompt_of(const Sample& sample) {
  if (sample.prompt_length > 0) return std::span(sample.token).first(index(sample.prompt_length));
  const auto learned = std::find_if(sample.target.begin() + std::min<size_t>(1, sample.target.size()),
                                    sample.target.end(), [](int32_t target) { return target != kIgnore; });
  const auto ahead = static_cast<size_t>(learned - sample.target.begin());
  return std::span(sample.token).first(std::min(ahead, sample.token.size()));
}

/// Groups that come on one side, in the order of their first. Where one token alone is ahead of what is learned, such
/// as a begin of text, it is nobody's prompt.
std::vector<Ids> together(const Dataset& dataset) {
  std::map<int64_t, size_t> of_unit;
  std::map<Digest, size_t> of_prompt;
  std::vector<Ids> all;
  for (int64_t id = 0; id < dataset.size(); ++id) {
    size_t place = all.size();
    if (!dataset.unit.empty()) {
      place = of_unit.try_emplace(dataset.unit[index(id)], place).first->second;
    } else {
      const Group& group = dataset.source ? dataset.get(id) : dataset.group[index(id)];
      const std::span<const int32_t> prompt = prompt_of(group.sample.front());
      if (prompt.size() > 1) place = of_prompt.try_emplace(Checksum().add(prompt).value(), place).first->second;
    }
    if (place == all.size()) all.emplace_back();
    all[place].push_back(id);
  }
  return all;
}

/// Some groups of a source, by other numbers.
class PickedGroups final : public GroupSource {
 public:
  PickedGroups(std::shared_ptr<const GroupSource> all, Ids ids) : all_(std::move(all)), ids_(std::move(ids)) {}
  Group group(int64_t id) const override {
    Group group = all_->group(ids_.at(index(id)));
    group.id = id;
    return group;
  }
  std::optional<std::string_view> first_tokens(int64_t id) const override {
    return all_->first_tokens(ids_.at(index(id)));
  }

 private:
  std::shared_ptr<const GroupSource> all_;
  Ids ids_;
};

/// The groups `ids` of `all`, out of `groups` where these are in memory.
Dataset take(const Dataset& all, std::vector<Group>& groups, const Ids& ids) {
  Dataset part = all;
  part.place.clear(), part.unit.clear();
  if (all.source) part.source = std::make_shared<PickedGroups>(all.source, ids);
  for (const int64_t id : ids) {
    part.place.push_back(all.place[index(id)]);
    if (!all.unit.empty()) part.unit.push_back(all.unit[index(id)]);
    if (all.source) continue;
    part.group.push_back(std::move(groups[index(id)]));
    part.group.back().id = std::ssize(part.group) - 1;
  }
  return part;
}

/// [groups] whether the group is drawn.
std::vector<bool> draw(const std::vector<Ids>& units, int64_t groups, double fraction, uint64_t seed) {
  std::vector<size_t> turn(units.size());
  std::iota(turn.begin(), turn.end(), size_t{0});
  Rng rng(seed, kSplitStream);
  for (size_t i = turn.size(); i > 1; --i) std::swap(turn[i - 1], turn[rng.below(i)]);
  const auto wanted = std::max<int64_t>(1, std::llround(fraction * static_cast<double>(groups)));
  std::vector<bool> is_drawn(index(groups), false);
  int64_t drawn = 0;
  const auto take = [&](size_t unit) {
    for (const int64_t id : units[unit]) is_drawn[index(id)] = true;
    drawn += std::ssize(units[unit]);
  };
  for (const size_t unit : turn)
    if (drawn + std::ssize(units[unit]) <= wanted) take(unit);
  if (drawn == 0)  // every prompt has more
    take(*std::min_element(turn.begin(), turn.end(),
                           [&](size_t a, size_t b) { return units[a].size() < units[b].size(); }));
  return is_drawn;
}

}  // namespace

SplitDataset split_dataset(Dataset dataset, double fraction, uint64_t seed) {
  const std::vector<bool> is_drawn = draw(together(dataset), dataset.size(), fraction, seed);
  Ids train, eval;
  for (int64_t id = 0; id < dataset.size(); ++id) (is_drawn[index(id)] ? eval : train).push_back(id);
  check<ConfigError>(!train.empty(), "data.eval_fraction is ", fraction, ": all ", dataset.size(),
                     " groups of data.path have one prompt, and a prompt is trained on or evaluated on, not both: give "
                     "data.eval_path");
  std::vector<Group> groups = std::move(dataset.group);
  dataset.group.clear();
  SplitDataset parts{.train = take(dataset, groups, train), .eval = take(dataset, groups, eval)};
  parts.eval.skipped.clear();  // of the files, said once
  return parts;
}

}  // namespace fpdist::data
