// Sequences in the order of a dictionary have their nearest relatives as neighbours: what two of them share is the
// least that neighbours between them share. So clusters are runs of that order, and a cut at its smallest value parts a
// run where its members are least related.

#include "src/data/source/prefix_units.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <numeric>
#include <string_view>
#include <utility>

#include "src/core/index.hpp"

namespace fpdist::data {
namespace {

/// A sequence where it lies: in memory, or at any address of a mapped file.
class Tokens {
 public:
  explicit Tokens(const std::vector<int32_t>& token)
      : at_(reinterpret_cast<const char*>(token.data())), size_(std::ssize(token)) {}
  explicit Tokens(std::string_view bytes)
      : at_(bytes.data()), size_(static_cast<int64_t>(bytes.size() / sizeof(int32_t))) {}
  int64_t size() const { return size_; }
  int32_t operator[](int64_t place) const {
    int32_t token = 0;
    std::memcpy(&token, at_ + index(place) * sizeof token, sizeof token);
    return token;
  }

 private:
  const char* at_;
  int64_t size_;
};

int64_t shared(Tokens a, Tokens b) {
  const int64_t shorter = std::min(a.size(), b.size());
  int64_t same = 0;
  while (same < shorter && a[same] == b[same]) ++same;
  return same;
}

/// In a dictionary.
bool comes_before(Tokens a, Tokens b) {
  const int64_t same = shared(a, b);
  if (same == a.size() || same == b.size()) return a.size() < b.size();
  return a[same] < b[same];
}

/// Numbers of `sequences` in the order of a dictionary, equal ones by number.
std::vector<int64_t> sorted(const std::vector<Tokens>& sequences) {
  std::vector<int64_t> order(sequences.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return comes_before(sequences[index(a)], sequences[index(b)]); });
  return order;
}

/// A run [begin, end) of the sorted order.
struct SortedRun {
  size_t begin, end;
  int64_t size() const { return static_cast<int64_t>(end - begin); }
};

class UnitMaker {
 public:
  /// `common[i]`: tokens that the sequences i - 1 and i of `order` share.
  UnitMaker(const std::vector<int64_t>& order, const std::vector<int64_t>& common, int64_t max_groups)
      : order_(order), common_(common), max_groups_(max_groups) {}

  void add_cluster(SortedRun run) {
    const int64_t cluster = run.size() > max_groups_ ? next_cluster_++ : -1;
    std::vector<SortedRun> open{run};
    while (!open.empty()) {
      const SortedRun one = open.back();
      open.pop_back();
      if (one.size() <= max_groups_)
        add_unit(one, cluster);
      else
        cut(one, cluster, open);
    }
  }
  std::vector<LoadUnit> take() && { return std::move(units_); }

 private:
  void add_unit(SortedRun run, int64_t cluster) {
    LoadUnit& unit = units_.emplace_back();
    unit.group.assign(order_.begin() + static_cast<std::ptrdiff_t>(run.begin),
                      order_.begin() + static_cast<std::ptrdiff_t>(run.end));
    unit.cluster = cluster;
  }

  /// Parts `run` where least is shared; neighbouring parts stay together as long as they fit.
  void cut(SortedRun run, int64_t cluster, std::vector<SortedRun>& open) {
    const int64_t least = *std::min_element(common_.begin() + static_cast<std::ptrdiff_t>(run.begin) + 1,
                                            common_.begin() + static_cast<std::ptrdiff_t>(run.end));
    SortedRun together{run.begin, run.begin};
    const auto add_part = [&](SortedRun part) {
      if (part.end - together.begin > index(max_groups_) && together.size() > 0) {
        add_unit(together, cluster);
        together.begin = part.begin;
      }
      together.end = part.end;
      if (together.size() <= max_groups_) return;
      open.push_back(part);
      together = {part.end, part.end};
    };
    size_t begin = run.begin;
    for (size_t i = run.begin + 1; i < run.end; ++i)
      if (common_[i] == least) add_part({std::exchange(begin, i), i});
    add_part({begin, run.end});
    if (together.size() > 0) add_unit(together, cluster);
  }

  const std::vector<int64_t>&order_, &common_;
  int64_t max_groups_, next_cluster_ = 0;
  std::vector<LoadUnit> units_;
};

}  // namespace

std::vector<LoadUnit> prefix_units(const Dataset& dataset, int64_t min_shared, int64_t max_groups) {
  std::vector<Tokens> first;
  std::deque<std::vector<int32_t>> made;  // of groups that lie nowhere
  for (int64_t id = 0; dataset.source && id < dataset.size(); ++id) {
    if (const auto bytes = dataset.source->first_tokens(id)) {
      first.emplace_back(*bytes);
      continue;
    }
    first.emplace_back(made.emplace_back(std::move(dataset.get(id).sample.front().token)));
  }
  for (const Group& group : dataset.group) first.emplace_back(group.sample.front().token);
  const std::vector<int64_t> order = sorted(first);
  std::vector<int64_t> common(order.size(), 0);
  for (size_t i = 1; i < order.size(); ++i) common[i] = shared(first[index(order[i - 1])], first[index(order[i])]);
  UnitMaker maker(order, common, max_groups);
  size_t begin = 0;
  for (size_t i = 1; i <= order.size(); ++i)
    if (i == order.size() || common[i] < min_shared) maker.add_cluster({std::exchange(begin, i), i});
  return std::move(maker).take();
}

std::vector<LoadUnit> equal_units(std::span<const int64_t> unit) {
  std::map<int64_t, LoadUnit> by_first;
  for (size_t i = 0; i < unit.size(); ++i) by_first[unit[i]].group.push_back(static_cast<int64_t>(i));
  std::vector<LoadUnit> units;
  for (auto& [first, one] : by_first) units.push_back(std::move(one));
  return units;
}

double sharing_of(std::span<const Group> groups) {
  std::vector<Tokens> sequences;
  for (const Group& group : groups)
    for (const Sample& sample : group.sample) sequences.emplace_back(sample.token);
  const std::vector<int64_t> order = sorted(sequences);
  int64_t logical = 0, distinct = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const Tokens one = sequences[index(order[i])];
    logical += one.size();
    distinct += one.size() - (i > 0 ? shared(sequences[index(order[i - 1])], one) : 0);
  }
  return distinct > 0 ? static_cast<double>(logical) / static_cast<double>(distinct) : 1.0;
}

}  // namespace fpdist::data
