#include "src/plan/pack/bundle.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/costs/unit_cost.hpp"

namespace fpdist::plan {
namespace {

Weight weight(const StageCosts& costs, const Amount& work) { return {work.rows, total_work(costs, work)}; }

}  // namespace

int64_t scaled(int64_t a, int64_t b, int64_t c) {
  const auto wide =
      static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b) / static_cast<unsigned __int128>(c);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  return wide > static_cast<unsigned __int128>(kMost) ? kMost : static_cast<int64_t>(wide);
}

Scope::Scope(const LengthTree& tree, const StageCosts& costs, std::span<const int32_t> samples)
    : tree_(tree), costs_(costs), users_(tree.node.size()), number_(tree.node.size(), -1), seen_(tree.node.size(), -1) {
  for (const int32_t s : samples) {
    const LengthSample& sample = tree.sample[index(s)];
    total_ += weight(costs, {0, 0, sample.edges});
    for (int32_t n = sample.node; n >= 0; n = tree.node[index(n)].parent) {
      const int32_t users = ++users_[index(n)];
      if (users == 1) total_ += weight(costs, tree.node[index(n)].work());
      if (users != 2) continue;
      number_[index(n)] = static_cast<int32_t>(shared_.size());
      shared_.push_back(weight(costs, tree.node[index(n)].work()));
    }
  }
}

Bundle Scope::bundle(std::vector<int32_t> samples) {
  Bundle bundle;
  ++visit_;
  for (const int32_t s : samples) {
    const LengthSample& sample = tree_.sample[index(s)];
    bundle.own += weight(costs_, {0, 0, sample.edges});
    for (int32_t n = sample.node; n >= 0 && seen_[index(n)] != visit_; n = tree_.node[index(n)].parent) {
      seen_[index(n)] = visit_;
      if (number_[index(n)] >= 0) {
        bundle.shared.push_back(number_[index(n)]);
      } else {
        bundle.own += weight(costs_, tree_.node[index(n)].work());
      }
    }
  }
  bundle.alone = bundle.own;
  for (const int32_t node : bundle.shared) bundle.alone += shared_[index(node)];
  bundle.sample = std::move(samples);
  return bundle;
}

Bins::Bins(const std::vector<Weight>& shared, std::vector<int64_t> targets, int64_t most_rows)
    : shared_(shared),
      target_(std::move(targets)),
      most_rows_(most_rows),
      load_(target_.size()),
      users_(target_.size() * shared.size()),
      content_(target_.size()) {}

Weight Bins::added(const Bundle& bundle, size_t bin) const {
  Weight sum = bundle.own;
  for (const int32_t node : bundle.shared)
    if (users_[bin * shared_.size() + index(node)] == 0) sum += shared_[index(node)];
  return sum;
}

Weight Bins::freed(const Bundle& bundle, size_t bin) const {
  Weight sum = bundle.own;
  for (const int32_t node : bundle.shared)
    if (users_[bin * shared_.size() + index(node)] == 1) sum += shared_[index(node)];
  return sum;
}

void Bins::add(const Bundle& bundle, size_t bin) {
  load_[bin] += added(bundle, bin);
  for (const int32_t node : bundle.shared) ++users_[bin * shared_.size() + index(node)];
  content_[bin].push_back(&bundle);
}

void Bins::remove(const Bundle& bundle, size_t bin) {
  load_[bin] -= freed(bundle, bin);
  for (const int32_t node : bundle.shared) --users_[bin * shared_.size() + index(node)];
  content_[bin].erase(std::find(content_[bin].begin(), content_[bin].end(), &bundle));
}

bool Bins::fill(std::span<const Bundle* const> bundles) {
  std::vector<const Bundle*> order(bundles.begin(), bundles.end());
  std::sort(order.begin(), order.end(), [](const Bundle* a, const Bundle* b) {
    return std::pair(-a->alone.cost, a->sample[0]) < std::pair(-b->alone.cost, b->sample[0]);
  });
  for (const Bundle* bundle : order) {
    size_t best = target_.size();
    int64_t most_left = std::numeric_limits<int64_t>::min();
    for (size_t bin = 0; bin < target_.size(); ++bin) {
      if (-excess(bin) - bundle->own.cost <= most_left) continue;
      const Weight sum = added(*bundle, bin);
      const int64_t left = -excess(bin) - sum.cost;
      if (left > most_left && load_[bin].rows + sum.rows <= most_rows_) best = bin, most_left = left;
    }
    if (best == target_.size()) return false;
    add(*bundle, best);
  }
  return true;
}

bool Bins::fill_by_rows(std::span<const Bundle* const> bundles) {
  std::vector<const Bundle*> order(bundles.begin(), bundles.end());
  std::sort(order.begin(), order.end(), [](const Bundle* a, const Bundle* b) {
    return std::pair(-a->alone.rows, a->sample[0]) < std::pair(-b->alone.rows, b->sample[0]);
  });
  for (const Bundle* bundle : order) {
    size_t bin = 0;
    while (bin < target_.size() && load_[bin].rows + added(*bundle, bin).rows > most_rows_) ++bin;
    if (bin == target_.size()) return false;
    add(*bundle, bin);
  }
  return true;
}

void Bins::clear() {
  std::fill(load_.begin(), load_.end(), Weight{});
  std::fill(users_.begin(), users_.end(), 0);
  for (auto& bundles : content_) bundles.clear();
}

void Bins::refine(int rounds) {
  for (int round = 0; round < rounds; ++round) {
    size_t high = 0, low = 0;
    for (size_t bin = 1; bin < target_.size(); ++bin) {
      if (excess(bin) > excess(high)) high = bin;
      if (excess(bin) < excess(low)) low = bin;
    }
    if (high == low || (!move_one(high, low) && !swap_one(high, low))) return;
  }
}

bool Bins::move_one(size_t high, size_t low) {
  const Bundle* best = nullptr;
  int64_t best_excess = excess(high);
  for (const Bundle* bundle : content_[high]) {
    const Weight to = added(*bundle, low);
    const int64_t worse = std::max(excess(high) - freed(*bundle, high).cost, excess(low) + to.cost);
    if (worse < best_excess && load_[low].rows + to.rows <= most_rows_) best = bundle, best_excess = worse;
  }
  if (!best) return false;
  remove(*best, high);
  add(*best, low);
  return true;
}

/// Looks for the two bundles whose difference comes nearest to half the gap, judged by what each frees where it lies.
bool Bins::swap_one(size_t high, size_t low) {
  const auto by_freed = [&](size_t bin) {
    std::vector<std::pair<int64_t, const Bundle*>> all;
    for (const Bundle* bundle : content_[bin]) all.emplace_back(freed(*bundle, bin).cost, bundle);
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
      return std::pair(a.first, a.second->sample[0]) < std::pair(b.first, b.second->sample[0]);
    });
    return all;
  };
  const auto from_high = by_freed(high), from_low = by_freed(low);
  const int64_t half = (excess(high) - excess(low)) / 2;
  std::pair<const Bundle*, const Bundle*> best{nullptr, nullptr};
  int64_t best_miss = half;
  for (const auto& [cost, bundle] : from_high) {
    auto other = std::lower_bound(from_low.begin(), from_low.end(), cost - half,
                                  [](const auto& entry, int64_t wanted) { return entry.first < wanted; });
    if (other != from_low.begin()) --other;
    for (int tried = 0; tried < 2 && other != from_low.end(); ++tried, ++other) {
      const int64_t difference = cost - other->first, miss = std::max(difference - half, half - difference);
      if (difference > 0 && miss < best_miss) best_miss = miss, best = {bundle, other->second};
    }
  }
  if (!best.first) return false;
  const int64_t before = excess(high);
  const auto exchange = [&](const Bundle& to_low, const Bundle& to_high) {
    remove(to_low, high), remove(to_high, low);
    add(to_low, low), add(to_high, high);
  };
  exchange(*best.first, *best.second);
  if (std::max(excess(high), excess(low)) < before && std::max(load_[high].rows, load_[low].rows) <= most_rows_)
    return true;
  exchange(*best.second, *best.first);
  return false;
}

std::vector<int32_t> Bins::samples(size_t bin) const {
  std::vector<int32_t> all;
  for (const Bundle* bundle : content_[bin]) all.insert(all.end(), bundle->sample.begin(), bundle->sample.end());
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<Bundle> split_evenly(Scope& scope, std::span<const std::vector<int32_t>> atoms, size_t count) {
  std::vector<Bundle> single, parts;
  std::vector<const Bundle*> pointers;
  for (const auto& atom : atoms) single.push_back(scope.bundle(atom));
  for (const Bundle& atom : single) pointers.push_back(&atom);
  Bins bins(scope.shared(), std::vector<int64_t>(count), std::numeric_limits<int64_t>::max());
  bins.fill(pointers);
  for (size_t bin = 0; bin < count; ++bin)
    if (!bins.content()[bin].empty()) parts.push_back(scope.bundle(bins.samples(bin)));
  return parts;
}

}  // namespace fpdist::plan
