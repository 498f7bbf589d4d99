#pragma once
// generate, private: PrefixKV (Wang et al., "PrefixKV: Adaptive Prefix KV Cache is What Vision Instruction-Following
// Models Need for Efficient Generation", 2024): how many of a prompt's keys each layer keeps, and which. Pure.
//
// A key's importance in a layer is how much it was attended to in all by the prompt's rows, in the mean over heads. A
// layer's curve is the share that its k most important keys have of all importance. For a threshold a layer keeps the
// fewest keys whose share reaches it; one threshold for all layers, found by halving, so that together they drop as
// many as the budget says: a layer with flat attention keeps many, one with peaked attention few. The first keys and
// the last one stay. The paper's code averages what calibration samples drop, as halving is slow there; here each
// prompt is its own sample, unless such means are given.

#include <cstdint>
#include <span>
#include <vector>

namespace fpdist::generate {

/// How many of n keys each layer drops: importance [layers] of [n] each; `first`: keys at the front that stay. In all
/// round((1 - budget) layers n), or as many as may go.
std::vector<int64_t> dropped_by_layer(std::span<const std::vector<double>> importance, double budget, int64_t first);

/// The same of n keys by the share that each layer drops, rounded, of those that may go: as the paper's code has it
/// once shares are the means of calibration prompts.
std::vector<int64_t> dropped_by_shares(std::span<const double> shares, int64_t keys, int64_t first);

/// The keys of a layer that stay, ascending: the first ones, the last one and the most important others; of equal ones
/// the earlier.
std::vector<int32_t> chosen_keys(const std::vector<double>& importance, int64_t dropped, int64_t first);

/// How many of a completion's `rows` keys a layer keeps that kept `share` of its prompt's: the same share, and at least
/// `distance`.
int64_t kept_of_completion(int64_t rows, double share, int64_t distance);

}  // namespace fpdist::generate
