#include "src/comm/agreement.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <map>
#include <optional>

#include "fpdist/core/error.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/core/checksum.hpp"
#include "src/core/index.hpp"

namespace fpdist::comm {
namespace {

constexpr size_t kMostShown = 8;  // differences
constexpr size_t kLongest = 100;  // characters of a value

/// name NUL value NUL ...
std::string packed(std::span<const Fact> facts) {
  std::string all;
  for (const Fact& fact : facts) all += fact.name + '\0' + fact.value + '\0';
  return all;
}

std::vector<Fact> unpacked(const std::string& all) {
  std::vector<Fact> facts;
  for (size_t begin = 0; begin < all.size();) {
    const size_t middle = all.find('\0', begin), end = all.find('\0', middle + 1);
    facts.push_back({all.substr(begin, middle - begin), all.substr(middle + 1, end - middle - 1)});
    begin = end + 1;
  }
  return facts;
}

bool is_same_everywhere(const std::string& facts, Communicator& axis) {
  const Digest digest = Checksum().add(facts.data(), facts.size()).value();
  const at::Tensor own = at::empty({2}, at::kLong);
  own.mutable_data_ptr<int64_t>()[0] = static_cast<int64_t>(digest.high);
  own.mutable_data_ptr<int64_t>()[1] = static_cast<int64_t>(digest.low);
  at::Tensor all = at::empty({2 * axis.size()}, at::kLong);
  axis.all_gather_v(own, all, std::vector<int64_t>(index(axis.size()), 2));
  const int64_t* digests = all.const_data_ptr<int64_t>();
  for (int rank = 1; rank < axis.size(); ++rank)
    if (!std::equal(digests, digests + 2, digests + 2 * rank)) return false;
  return true;
}

std::string shown(const std::string& value) {
  return value.size() <= kLongest ? value : value.substr(0, kLongest) + " ...";
}

}  // namespace

std::vector<Difference> find_differences(std::span<const Fact> own, Communicator& axis) {
  const std::string mine = packed(own);
  if (is_same_everywhere(mine, axis)) return {};
  std::vector<std::string> names;  // in the order in which they are met
  std::map<std::string, std::vector<std::optional<std::string>>> values;
  const std::vector<std::string> all = gather_texts(mine, axis);
  for (size_t rank = 0; rank < all.size(); ++rank)
    for (Fact& fact : unpacked(all[rank])) {
      const auto [entry, is_new] = values.try_emplace(fact.name, all.size());
      if (is_new) names.push_back(fact.name);
      entry->second[rank] = std::move(fact.value);
    }
  std::vector<Difference> differences;
  for (const std::string& name : names) {
    Difference difference{.name = name, .held = {}};
    std::vector<std::optional<std::string>> seen;  // [held]
    for (size_t rank = 0; rank < all.size(); ++rank) {
      const std::optional<std::string>& value = values.at(name)[rank];
      const auto like = std::find(seen.begin(), seen.end(), value);
      if (like == seen.end()) difference.held.push_back({value.value_or("nothing"), {}});
      difference.held[index(like - seen.begin())].second.push_back(static_cast<int>(rank));
      if (like == seen.end()) seen.push_back(value);
    }
    if (difference.held.size() > 1) differences.push_back(std::move(difference));
  }
  return differences;
}

std::string to_text(std::span<const Difference> differences) {
  std::string all;
  for (const Difference& difference : differences.first(std::min(kMostShown, differences.size()))) {
    all += text(all.empty() ? "" : "\n", difference.name, ": ");
    for (size_t i = 0; i < difference.held.size(); ++i)
      all += text(i == 0 ? "" : ", ", shown(difference.held[i].first), " on ", ranks_text(difference.held[i].second));
  }
  if (differences.size() > kMostShown) all += text("\nand ", differences.size() - kMostShown, " more");
  return all;
}

std::string ranks_text(std::span<const int> ranks) {
  std::vector<std::string> runs;
  for (size_t begin = 0; begin < ranks.size();) {
    size_t end = begin + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    runs.push_back(end - begin == 1 ? text(ranks[begin]) : text(ranks[begin], "-", ranks[end - 1]));
    begin = end;
  }
  std::string all = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < runs.size(); ++i) all += text(i == 0 ? "" : i + 1 == runs.size() ? " and " : ", ", runs[i]);
  return all;
}

}  // namespace fpdist::comm
