#include "src/generate/prefix_kv.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "src/core/index.hpp"

namespace fpdist::generate {
namespace {

using Counts = std::vector<int64_t>;

constexpr int64_t kEnough = 5;     // keys that the halving may be off by
constexpr int kMostHalvings = 64;  // all that a double has

int64_t sum(const Counts& counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

/// Shares of the most important 1, 2, ... keys.
std::vector<double> curve_of(std::vector<double> importance) {
  std::sort(importance.begin(), importance.end(), std::greater<>());
  std::partial_sum(importance.begin(), importance.end(), importance.begin());
  const double all = importance.back();
  for (double& share : importance) share = all > 0 ? share / all : 1;
  return importance;
}

/// What each layer drops at a threshold, of `most` that may go.
Counts dropped_at(double threshold, std::span<const std::vector<double>> curves, int64_t most) {
  Counts dropped;
  for (const std::vector<double>& curve : curves) {
    const int64_t kept = std::lower_bound(curve.begin(), curve.end(), threshold) - curve.begin() + 1;
    dropped.push_back(std::max<int64_t>(0, most - kept));
  }
  return dropped;
}

/// The counts times what makes their sum `target`, rounded so that it stays so.
Counts scaled(const Counts& counts, int64_t target, int64_t most) {
  const double factor = static_cast<double>(target) / static_cast<double>(std::max<int64_t>(1, sum(counts)));
  std::vector<double> rest;
  Counts whole;
  for (const int64_t count : counts) {
    const double exact = std::min(static_cast<double>(most), static_cast<double>(count) * factor);
    whole.push_back(static_cast<int64_t>(exact));
    rest.push_back(exact - static_cast<double>(whole.back()));
  }
  std::vector<size_t> order(counts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rest[a] > rest[b]; });
  for (int64_t left = target - sum(whole), last = left + 1; left > 0 && left < last;) {
    last = left;
    for (const size_t layer : order)
      if (left > 0 && whole[layer] < most) ++whole[layer], --left;
  }
  return whole;
}

}  // namespace

std::vector<int64_t> dropped_by_layer(std::span<const std::vector<double>> importance, double budget, int64_t first) {
  const auto keys = static_cast<int64_t>(importance.front().size());
  const int64_t most = std::max<int64_t>(0, keys - first - 1);
  const auto layers = static_cast<int64_t>(importance.size());
  const auto target = std::min<int64_t>(most * layers, std::llround((1 - budget) * static_cast<double>(layers * keys)));
  std::vector<std::vector<double>> curves;
  for (const std::vector<double>& layer : importance) curves.push_back(curve_of(layer));
  Counts dropped;
  double low = 0, high = 1;
  for (int halving = 0; halving < kMostHalvings; ++halving) {
    const double threshold = (low + high) / 2;
    dropped = dropped_at(threshold, curves, most);
    const int64_t off = sum(dropped) - target;
    if (std::abs(off) < kEnough) break;
    (off > 0 ? low : high) = threshold;
  }
  return scaled(dropped, target, most);
}

std::vector<int64_t> dropped_by_shares(std::span<const double> shares, int64_t keys, int64_t first) {
  const int64_t most = std::max<int64_t>(0, keys - first - 1);
  Counts dropped;
  for (const double share : shares)
    dropped.push_back(std::min<int64_t>(most, std::llround(share * static_cast<double>(keys))));
  return dropped;
}

std::vector<int32_t> chosen_keys(const std::vector<double>& importance, int64_t dropped, int64_t first) {
  const auto keys = static_cast<int64_t>(importance.size());
  std::vector<int32_t> order(importance.size());
  std::iota(order.begin(), order.end(), 0);
  const auto begin = order.begin() + std::min(first, keys), end = std::max(begin, order.end() - 1);
  std::stable_sort(begin, end, [&](int32_t a, int32_t b) { return importance[index(a)] > importance[index(b)]; });
  order.erase(end - std::min<int64_t>(dropped, end - begin), end);
  std::sort(order.begin(), order.end());
  return order;
}

int64_t kept_of_completion(int64_t rows, double share, int64_t distance) {
  return std::min(rows, std::max(distance, static_cast<int64_t>(share * static_cast<double>(rows))));
}

}  // namespace fpdist::generate
