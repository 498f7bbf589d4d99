#include "src/generate/sampling.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"

namespace fpdist::generate {
namespace {

constexpr size_t kBlock = kShareBlock;            // entries whose weights are added up for themselves
constexpr uint64_t kStream = 0x67656e6572617465;  // "generate": no other draws have this key
constexpr size_t kLanes = 8;                      // sums side by side: a single one waits for each addition
constexpr float kOut = -std::numeric_limits<float>::infinity();

/// Everything below the k-th goes; what equals it stays.
void keep_top_k(std::vector<float>& logits, int64_t k) {
  if (k == 0 || k >= static_cast<int64_t>(logits.size())) return;
  std::vector<float> sorted = logits;
  const auto kth = sorted.begin() + (k - 1);
  std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
  const float least = *kth;
  for (float& logit : logits)
    if (logit < least) logit = kOut;
}

/// Of all.
float greatest(std::span<const float> x) {
  std::array<float, kLanes> most;
  most.fill(x[0]);
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) most[lane] = std::max(most[lane], x[i + lane]);
  for (; i < x.size(); ++i) most[0] = std::max(most[0], x[i]);
  return *std::max_element(most.begin(), most.end());
}

/// exp(by * logit - most), most being the greatest of all by * logit.
std::vector<double> weights_of(std::span<const float> logits, double by, double most) {
  std::vector<double> weights(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) weights[i] = logits[i] * by - most;
  at::from_blob(weights.data(), {static_cast<int64_t>(weights.size())}, at::kDouble).exp_();  // several at a time
  return weights;
}
std::vector<double> weights_of(std::span<const float> logits) { return weights_of(logits, 1, greatest(logits)); }

/// From the smallest up all go that together have no more than 1 - p of the sum; one stays. `rest`: of smaller ones
/// that are not here and have gone already.
void keep_top_p(std::vector<float>& logits, double p, double rest) {
  if (p >= 1) return;
  const std::vector<double> weights = weights_of(logits);
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] < logits[b]; });
  const double limit = (1 - p) * std::accumulate(weights.begin(), weights.end(), rest);
  double sum = rest;
  for (size_t i = 0; i + 1 < order.size(); ++i) {
    sum += weights[order[i]];
    if (sum > limit) break;
    logits[order[i]] = kOut;
  }
}

}  // namespace

bool leaves_all(const SamplingOptions& options) {
  return options.top_k == 0 && options.top_p >= 1 && options.min_p == 0 && options.repetition_penalty == 1;
}

std::vector<double> kept_weights(std::span<const float> logits, std::span<const int32_t> history,
                                 const SamplingOptions& options) {
  return filtered_weights(at_temperature(logits, history, options), options);
}

std::vector<float> penalised(std::span<const float> logits, std::span<const int32_t> history, double penalty) {
  std::vector<float> all(logits.begin(), logits.end());
  if (penalty == 1) return all;
  const auto by = static_cast<float>(penalty);
  for (const int32_t token : history) {  // once a token, however often it comes
    const auto at = static_cast<size_t>(token);
    all[at] = logits[at] < 0 ? logits[at] * by : logits[at] / by;
  }
  return all;
}

std::vector<float> at_temperature(std::span<const float> logits, std::span<const int32_t> history,
                                  const SamplingOptions& options) {
  std::vector<float> all = penalised(logits, history, options.repetition_penalty);
  const auto temperature = static_cast<float>(options.temperature);
  for (float& logit : all) logit /= temperature;
  return all;
}

std::vector<double> filtered_weights(std::vector<float> left, const SamplingOptions& options, double rest) {
  keep_top_k(left, options.top_k);
  keep_top_p(left, options.top_p, rest);
  std::vector<double> weights = weights_of(left);  // the likeliest's is 1
  for (double& weight : weights)
    if (weight < options.min_p) weight = 0;
  return weights;
}

ShareBlock block_at_share(std::span<const double> sums, double u) {
  ShareBlock share{0, u * std::accumulate(sums.begin(), sums.end(), 0.0)};
  while (share.block + 1 < sums.size() && share.left >= sums[share.block]) share.left -= sums[share.block++];
  return share;
}

int64_t place_in_block(std::span<const double> weights, double left) {
  size_t i = 0;
  while (i + 1 < weights.size() && left >= weights[i]) left -= weights[i++];
  return static_cast<int64_t>(i);
}

int32_t at_share(std::span<const double> weights, double u) {
  std::vector<double> sums((weights.size() + kBlock - 1) / kBlock);
  const auto block = [&](size_t b) {
    return weights.subspan(b * kBlock, std::min(kBlock, weights.size() - b * kBlock));
  };
  for (size_t b = 0; b < sums.size(); ++b) sums[b] = std::accumulate(block(b).begin(), block(b).end(), 0.0);
  const ShareBlock share = block_at_share(sums, u);
  size_t i = share.block * kBlock + static_cast<size_t>(place_in_block(block(share.block), share.left));
  while (weights[i] == 0) --i;  // rounding may leave something behind the last one: then it is that
  return static_cast<int32_t>(i);
}

double share_of(uint64_t seed, uint64_t draw, uint64_t position) {
  const auto words = philox(seed ^ kStream, draw, position);
  const uint64_t bits = (static_cast<uint64_t>(words[0]) << 32 | words[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

Drawn draw_token(std::span<const float> logits, std::span<const int32_t> history, const SamplingOptions& options,
                 double u) {
  const bool is_greedy = options.temperature == 0;
  const double by = is_greedy ? 1 : 1 / options.temperature;
  const double most = greatest(logits) * by;
  const std::vector<double> weights = weights_of(logits, by, most);
  std::array<double, kLanes> sums{}, means{};
  const auto add = [&](size_t i, size_t lane) {
    sums[lane] += weights[i];
    means[lane] += weights[i] * (logits[i] * by - most);
  };
  size_t whole = 0;
  for (; whole + kLanes <= logits.size(); whole += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) add(whole + lane, lane);
  for (size_t i = whole; i < logits.size(); ++i) add(i, i - whole);
  const double sum = std::accumulate(sums.begin(), sums.end(), 0.0);
  check(std::isfinite(sum), kNotFinite);
  const double mean = std::accumulate(means.begin(), means.end(), 0.0);
  Drawn drawn;
  if (is_greedy) {
    const std::vector<float> left = penalised(logits, history, options.repetition_penalty);
    drawn.token = static_cast<int32_t>(std::max_element(left.begin(), left.end()) - left.begin());
  } else {
    const std::vector<double> kept =
        leaves_all(options) ? std::vector<double>() : kept_weights(logits, history, options);
    drawn.token = at_share(kept.empty() ? weights : kept, u);
    for (size_t i = 0; i < kept.size(); ++i) drawn.truncated += kept[i] == 0 ? weights[i] / sum : 0;
  }
  drawn.logp = logits[static_cast<size_t>(drawn.token)] * by - most - std::log(sum);
  drawn.entropy = std::log(sum) - mean / sum;
  return drawn;
}

}  // namespace fpdist::generate
