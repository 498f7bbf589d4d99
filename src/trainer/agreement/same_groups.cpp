#include "src/trainer/agreement/same_groups.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/comm/agreement.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/core/index.hpp"
#include "src/core/words.hpp"
#include "src/data/fields.hpp"

namespace fpdist::trainer {
namespace {

void add(Checksum& sum, int32_t value) { sum.add(value); }
template <typename T>
void add(Checksum& sum, const std::vector<T>& values) {
  sum.add(std::span<const T>(values));
}
void add(Checksum& sum, const std::optional<double>& value) {
  sum.add(static_cast<uint8_t>(value.has_value())).add(value.value_or(0.0));
}

void add(Checksum& sum, const data::Group& group) {
  const auto add_field = [&](const char*, const auto& field) { add(sum, field); };
  data::each_field_of_group(group, add_field);
  sum.add(static_cast<uint64_t>(group.sample.size()));
  for (const data::Sample& sample : group.sample) data::each_field_of_sample(sample, add_field);
}

std::string words_of(bool value) { return value ? "true" : "false"; }
std::string words_of(int32_t value) { return text(value); }
std::string words_of(const std::optional<double>& value) { return value ? number("%.17g", *value) : "none"; }
template <typename T>
std::string words_of(const std::vector<T>& values) {
  Checksum sum;
  add(sum, values);
  return text(values.size(), " numbers with the checksum ", to_string(sum.value()).substr(0, 8));
}

std::vector<comm::Fact> facts_of(const data::Group& group) {
  std::vector<comm::Fact> facts{{"samples", text(group.sample.size())}};
  std::string of;
  const auto add_fact = [&](const char* field, const auto& value) { facts.push_back({field + of, words_of(value)}); };
  data::each_field_of_group(group, add_fact);
  for (size_t s = 0; s < group.sample.size(); ++s) {
    of = text(" of sample ", s);
    data::each_field_of_sample(group.sample[s], add_fact);
  }
  return facts;
}

/// [groups, 2]
at::Tensor digests_of(std::span<const data::Group> groups) {
  at::Tensor all = at::empty({static_cast<int64_t>(groups.size()), 2}, at::kLong);
  int64_t* out = all.mutable_data_ptr<int64_t>();
  for (const data::Group& group : groups) {
    Checksum sum;
    add(sum, group);
    const Digest digest = sum.value();
    *out++ = static_cast<int64_t>(digest.high), *out++ = static_cast<int64_t>(digest.low);
  }
  return all;
}

/// Place of the first group that some rank holds otherwise than rank 0; nothing where they differ in their number
/// alone. Collective.
std::optional<size_t> first_difference(std::span<const data::Group> groups, comm::Communicator& world) {
  at::Tensor shortest = at::full({1}, static_cast<int64_t>(groups.size()), at::kLong);
  world.all_reduce(shortest, comm::ReduceOp::kMin);
  const int64_t common = shortest.item<int64_t>();
  const at::Tensor own = digests_of(groups.first(index(common)));
  at::Tensor of_first = own.clone();
  world.broadcast(of_first, 0);
  const int64_t *mine = own.const_data_ptr<int64_t>(), *theirs = of_first.const_data_ptr<int64_t>();
  int64_t first = 0;
  while (first < common && std::equal(mine + 2 * first, mine + 2 * first + 2, theirs + 2 * first)) ++first;
  at::Tensor earliest = at::full({1}, first, at::kLong);
  world.all_reduce(earliest, comm::ReduceOp::kMin);
  const int64_t place = earliest.item<int64_t>();
  return place < common ? std::optional(index(place)) : std::nullopt;
}

}  // namespace

Digest digest_of(std::span<const data::Group> groups) {
  Checksum sum;
  for (const data::Group& group : groups) add(sum, group);
  return sum.value();
}

namespace {

/// Of a whole data set, which may stay in its cache.
Digest dataset_digest(const data::Dataset& dataset) {
  if (!dataset.source) return digest_of(dataset.group);
  Checksum sum;
  for (int64_t id = 0; id < dataset.size(); ++id) add(sum, dataset.get(id));
  return sum.value();
}

/// Of which groups an epoch's steps have.
Digest order_digest(const data::Loader& loader) {
  Checksum order;
  for (int64_t step = 0; step < loader.steps_per_epoch(); ++step) {
    const std::vector<int64_t> groups = loader.step(step);
    order.add(std::span<const int64_t>(groups));
  }
  return order.value();
}

}  // namespace

Digest check_same_groups(std::span<const data::Group> groups, const GroupName& name, comm::Communicator& world,
                         std::string_view what, std::string_view cure) {
  const Digest digest = digest_of(groups);
  const comm::Fact whole{"samples", to_string(digest)};
  if (comm::find_differences({&whole, 1}, world).empty()) return digest;
  std::vector<comm::Fact> facts{{"groups", text(groups.size())}};
  std::string first;
  if (const auto place = first_difference(groups, world)) {
    facts.push_back({"row", name(*place)});
    for (comm::Fact& fact : facts_of(groups[*place])) facts.push_back(std::move(fact));
    first = text("; the first that differs is ", comm::broadcast_text(name(*place), 0, world));
  }
  throw DataError(text(what, first, ":\n", comm::to_text(comm::find_differences(facts, world)), "\n", cure));
}

Digest check_same_dataset(const data::Dataset& dataset, comm::Communicator& world) {
  constexpr std::string_view kWhat = "the ranks have read different data";
  constexpr std::string_view kCure = "copy the same data.path files to every node";
  const auto where = [&](size_t group) { return dataset.where(group); };
  if (!dataset.source) return check_same_groups(dataset.group, where, world, kWhat, kCure);
  const comm::Fact count{"groups", text(dataset.size())};
  const auto differences = comm::find_differences({&count, 1}, world);
  check<DataError>(differences.empty(), kWhat, ":\n", comm::to_text(differences), "\n", kCure);
  const Digest digest = dataset_digest(dataset);
  const comm::Fact whole{"samples", to_string(digest)};
  if (comm::find_differences({&whole, 1}, world).empty()) return digest;
  constexpr int64_t kPart = 64;  // in memory at once
  for (int64_t first = 0; first < dataset.size(); first += kPart) {
    std::vector<int64_t> ids(index(std::min(kPart, dataset.size() - first)));
    std::iota(ids.begin(), ids.end(), first);
    check_same_groups(
        data::pick_groups(dataset, ids), [&](size_t group) { return where(index(first) + group); }, world, kWhat,
        kCure);
  }
  return digest;
}

Digest check_same_order(const data::Loader& loader, comm::Communicator& world) {
  const Digest digest = order_digest(loader);
  const comm::Fact fact{"checksum of the order", to_string(digest)};
  const auto differences = comm::find_differences({&fact, 1}, world);
  check<DataError>(differences.empty(), "the ranks go through the same groups in different orders:\n",
                   comm::to_text(differences), "\ncopy the same data.path files to every node: uids order them too");
  return digest;
}

}  // namespace fpdist::trainer
