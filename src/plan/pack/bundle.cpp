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
    : tree_(tree), costs_(costs), sample_(samples.begin(), samples.end()) {
  std::vector<int32_t> open, path;  // nodes down to the sample before, here and of the tree those that follow
  for (const int32_t s : samples) {
    const LengthSample& sample = tree.sample[index(s)];
    total_ += weight(costs, {0, 0, sample.edges});
    for (int32_t n = sample.node;; n = tree.node[index(n)].parent) {
      while (!open.empty() && node_[index(open.back())].of_tree > n) open.pop_back();
      if (open.empty() ? n < 0 : node_[index(open.back())].of_tree == n) break;
      path.push_back(n);
    }
    for (auto at = open.rbegin(); at != open.rend() && node_[index(*at)].number < 0; ++at) {
      ScopeNode& node = node_[index(*at)];
      node.number = static_cast<int32_t>(shared_.size());
      shared_.push_back(weight(costs, tree.node[index(node.of_tree)].work()));
    }
    for (; !path.empty(); path.pop_back()) {
      total_ += weight(costs, tree.node[index(path.back())].work());
      node_.push_back({path.back(), open.empty() ? -1 : open.back(), -1, 0});
      open.push_back(static_cast<int32_t>(node_.size() - 1));
    }
    last_.push_back(open.back());
  }
}

size_t Scope::place(int32_t sample) const {
  const size_t most = index(sample - sample_[0]);  // no gaps above it: it is there
  if (most < sample_.size() && sample_[most] == sample) return most;
  return index(std::lower_bound(sample_.begin(), sample_.end(), sample) - sample_.begin());
}

Bundle Scope::bundle(std::vector<int32_t> samples) {
  Bundle bundle;
  ++visit_;
  for (const int32_t s : samples) {
    bundle.own += weight(costs_, {0, 0, tree_.sample[index(s)].edges});
    for (int32_t n = last_[place(s)]; n >= 0 && node_[index(n)].seen != visit_; n = node_[index(n)].parent) {
      ScopeNode& node = node_[index(n)];
      node.seen = visit_;
      if (node.number >= 0) {
        bundle.shared.push_back(node.number);
      } else {
        bundle.own += weight(costs_, tree_.node[index(node.of_tree)].work());
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
      ranking_(target_.size()),
      holders_(shared.size()),
      content_(target_.size()) {
  for (size_t bin = 0; bin < target_.size(); ++bin) rank(bin);
}

std::vector<Bins::Use>::iterator Bins::holder(int32_t node, size_t bin) {
  std::vector<Use>& all = holders_[index(node)];
  return std::lower_bound(all.begin(), all.end(), bin, [](const Use& one, size_t b) { return index(one.bin) < b; });
}

int32_t Bins::users(int32_t node, size_t bin) const {
  const std::vector<Use>& all = holders_[index(node)];
  const auto at =
      std::lower_bound(all.begin(), all.end(), bin, [](const Use& one, size_t b) { return index(one.bin) < b; });
  return at != all.end() && index(at->bin) == bin ? at->users : 0;
}

/// All of them but for nodes that are nearly everywhere, where a bundle saves as much in one bin as in the next.
std::span<const Bins::Use> Bins::some_holders(int32_t node) const {
  constexpr size_t kMost = 256;
  const std::vector<Use>& all = holders_[index(node)];
  return {all.data(), std::min(all.size(), kMost)};
}

Weight Bins::added(const Bundle& bundle, size_t bin) const {
  Weight sum = bundle.own;
  for (const int32_t node : bundle.shared)
    if (users(node, bin) == 0) sum += shared_[index(node)];
  return sum;
}

Weight Bins::freed(const Bundle& bundle, size_t bin) const {
  Weight sum = bundle.own;
  for (const int32_t node : bundle.shared)
    if (users(node, bin) == 1) sum += shared_[index(node)];
  return sum;
}

void Bins::add(const Bundle& bundle, size_t bin) {
  load_[bin] += added(bundle, bin);
  for (const int32_t node : bundle.shared) {
    const auto at = holder(node, bin);
    if (at != holders_[index(node)].end() && index(at->bin) == bin)
      ++at->users;
    else
      holders_[index(node)].insert(at, {static_cast<int32_t>(bin), 1});
  }
  content_[bin].push_back(&bundle);
  rank(bin);
}

void Bins::remove(const Bundle& bundle, size_t bin) {
  load_[bin] -= freed(bundle, bin);
  for (const int32_t node : bundle.shared) {
    const auto at = holder(node, bin);
    if (--at->users == 0) holders_[index(node)].erase(at);
  }
  content_[bin].erase(std::find(content_[bin].begin(), content_[bin].end(), &bundle));
  rank(bin);
}

/// Where the most of the target would be left: one of the bins that have some of its nodes, or, of all others, the one
/// with the most left now.
size_t Bins::roomiest(const Bundle& bundle) const {
  size_t best = Ranking::kNone;
  int64_t most_left = 0;
  const auto look = [&](size_t bin) {
    const Weight sum = added(bundle, bin);
    const int64_t left = -excess(bin) - sum.cost;
    if (load_[bin].rows + sum.rows > most_rows_) return;
    if (best == Ranking::kNone || left > most_left || (left == most_left && bin < best)) best = bin, most_left = left;
  };
  for (const int32_t node : bundle.shared)
    for (const Use& one : some_holders(node)) look(index(one.bin));
  const size_t other = ranking_.highest_within(most_rows_ - bundle.alone.rows);
  if (other != Ranking::kNone) look(other);
  return best;
}

size_t Bins::first_with_room(const Bundle& bundle) const {
  size_t first = ranking_.first_within(most_rows_ - bundle.alone.rows);
  for (const int32_t node : bundle.shared)
    for (const Use& one : some_holders(node)) {
      const size_t bin = index(one.bin);
      if (bin >= first) break;
      if (load_[bin].rows + added(bundle, bin).rows <= most_rows_) first = bin;
    }
  return first;
}

bool Bins::fill(std::span<const Bundle* const> bundles) {
  std::vector<const Bundle*> order(bundles.begin(), bundles.end());
  std::sort(order.begin(), order.end(), [](const Bundle* a, const Bundle* b) {
    return std::pair(-a->alone.cost, a->sample[0]) < std::pair(-b->alone.cost, b->sample[0]);
  });
  for (const Bundle* bundle : order) {
    const size_t bin = roomiest(*bundle);
    if (bin == Ranking::kNone) return false;
    add(*bundle, bin);
  }
  return true;
}

bool Bins::fill_by_rows(std::span<const Bundle* const> bundles) {
  std::vector<const Bundle*> order(bundles.begin(), bundles.end());
  std::sort(order.begin(), order.end(), [](const Bundle* a, const Bundle* b) {
    return std::pair(-a->alone.rows, a->sample[0]) < std::pair(-b->alone.rows, b->sample[0]);
  });
  return first_fit(order);
}

bool Bins::first_fit(std::span<const Bundle* const> bundles) {
  for (const Bundle* bundle : bundles) {
    const size_t bin = first_with_room(*bundle);
    if (bin == Ranking::kNone) return false;
    add(*bundle, bin);
  }
  return true;
}

void Bins::clear() {
  std::fill(load_.begin(), load_.end(), Weight{});
  for (auto& holders : holders_) holders.clear();
  for (auto& bundles : content_) bundles.clear();
  for (size_t bin = 0; bin < target_.size(); ++bin) rank(bin);
}

void Bins::refine(int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const size_t high = ranking_.lowest(), low = ranking_.highest();
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

OwnNumbers::OwnNumbers(const Scope& scope, std::vector<Bundle> bundles) : bundle(std::move(bundles)) {
  std::vector<int32_t> used;
  for (const Bundle& one : bundle) used.insert(used.end(), one.shared.begin(), one.shared.end());
  std::sort(used.begin(), used.end());
  used.erase(std::unique(used.begin(), used.end()), used.end());
  for (const int32_t node : used) shared.push_back(scope.shared()[index(node)]);
  for (Bundle& one : bundle)
    for (int32_t& node : one.shared)
      node = static_cast<int32_t>(std::lower_bound(used.begin(), used.end(), node) - used.begin());
}

std::vector<const Bundle*> OwnNumbers::pointers() const {
  std::vector<const Bundle*> all;
  for (const Bundle& one : bundle) all.push_back(&one);
  return all;
}

const std::vector<Bundle>& Splits::into(Scope& scope, size_t count) {
  std::vector<Bundle>& parts = split_[count];
  if (!parts.empty()) return parts;
  if (count == 1) {
    std::vector<int32_t> all;
    for (const auto& atom : atoms_) all.insert(all.end(), atom.begin(), atom.end());
    std::sort(all.begin(), all.end());
    parts.push_back(scope.bundle(std::move(all)));
    return parts;
  }
  std::vector<Bundle> single;
  for (const auto& atom : atoms_) single.push_back(scope.bundle(atom));
  const OwnNumbers own(scope, std::move(single));
  Bins bins(own.shared, std::vector<int64_t>(count), std::numeric_limits<int64_t>::max());
  bins.fill(own.pointers());
  for (size_t bin = 0; bin < count; ++bin)
    if (!bins.content()[bin].empty()) parts.push_back(scope.bundle(bins.samples(bin)));
  return parts;
}

const std::vector<Bundle>& Splits::within(Scope& scope, const Weight& most) {
  constexpr size_t kOneByOne = 64;
  const Weight whole = into(scope, 1)[0].alone;
  const auto fits = [&](const Bundle& one) { return one.alone.cost <= most.cost && one.alone.rows <= most.rows; };
  // Bundles have at least the work of the whole between them.
  const int64_t fewest =
      std::max(whole.cost / std::max<int64_t>(1, most.cost), whole.rows / std::max<int64_t>(1, most.rows));
  size_t tried = 0, count = std::clamp<size_t>(index(fewest), 1, atoms_.size());
  for (; count < atoms_.size(); ++tried) {
    const std::vector<Bundle>& parts = into(scope, count);
    if (std::all_of(parts.begin(), parts.end(), fits)) return parts;
    count = std::min(atoms_.size(), count + (tried < kOneByOne ? 1 : 1 + count / 8));
  }
  return into(scope, count);
}

}  // namespace fpdist::plan
