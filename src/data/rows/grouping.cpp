#include "src/data/rows/grouping.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <span>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/data/rows/remarks.hpp"

namespace fpdist::data {

size_t prompt_tokens(const Sample& sample) {
  if (sample.prompt_length > 0) return index(sample.prompt_length);
  return index(std::find_if(sample.target.begin(), sample.target.end(), [](int32_t id) { return id != kIgnore; }) -
               sample.target.begin());
}

void RowUnits::add(const Group& row, const std::string& uid) {
  if (by_ == GroupBy::kRow) return;
  const Sample& sample = row.sample.front();
  const Digest name =
      by_ == GroupBy::kUid
          ? Checksum().add(std::span<const char>(uid.data(), uid.size())).value()
          : Checksum().add(std::span<const int32_t>(sample.token.data(), prompt_tokens(sample))).value();
  first_.push_back(found_.emplace(name, std::ssize(first_)).first->second);
}

void join_rows(const std::vector<int64_t>& first, const std::function<Group(int64_t)>& row, const GroupSink& put,
               Dataset& facts, LogSink& log) {
  std::vector<int64_t> order(first.size());  // rows of a group together, in their order
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return first[index(a)] < first[index(b)]; });
  std::vector<RowPlace> places;
  EvenRewards rewards;
  for (size_t at = 0; at < order.size();) {
    const int64_t head = order[at];
    Group group = row(head);
    group.id = std::ssize(places);
    places.push_back(facts.place[index(head)]);
    for (++at; at < order.size() && first[index(order[at])] == head; ++at) {
      Group other = row(order[at]);
      check<DataError>(group.sample[0].reward.has_value() == other.sample[0].reward.has_value(),
                       "data.group_by: rows of one group have rewards and others advantages: give all of them alike");
      check<DataError>(
          group.source == other.source,
          "data.group_by: rows of one group are of different sources, which adapter.prefix_by tells apart: "
          "group rows of one source, data.group_by: uid");
      check<DataError>(group.prefix_context == other.prefix_context,
                       "data.group_by: rows of one group have different contexts, of which adapter.prefix_by makes "
                       "their prefix: group rows of one context, data.group_by: uid");
      std::move(other.sample.begin(), other.sample.end(), std::back_inserter(group.sample));
    }
    rewards.see(group);
    put(std::move(group));
  }
  facts.place = std::move(places);
  rewards.tell(log);
}

}  // namespace fpdist::data
