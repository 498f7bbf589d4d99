#pragma once
// generate, private: one token from one row of logits.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/generate/options.hpp"

namespace fpdist::generate {

struct Drawn {
  int32_t token = 0;
  double logp = 0, entropy = 0;  ///< as Completion has them
  double truncated = 0;          ///< probability, by the same distribution, of what the filters left out
};

/// exp(logit - greatest) of the tokens that the options leave, 0 for the others; float32 logits as transformers filters
/// them. `history`: ids of prompt and completion, in any order, as often as they come. temperature > 0.
std::vector<double> kept_weights(std::span<const float> logits, std::span<const int32_t> history,
                                 const SamplingOptions& options);

/// What it does of it, step by step. Logits as the penalty leaves them; these over the temperature; the weights of
/// such, of which smaller ones that are not here have `rest` in all, by the weights of kept_weights.
std::vector<float> penalised(std::span<const float> logits, std::span<const int32_t> history, double penalty);
std::vector<float> at_temperature(std::span<const float> logits, std::span<const int32_t> history,
                                  const SamplingOptions& options);
std::vector<double> filtered_weights(std::vector<float> left, const SamplingOptions& options, double rest = 0);

/// No filter is on.
bool leaves_all(const SamplingOptions& options);

inline constexpr const char* kNotFinite =
    "logits of the model are not finite: its weights are not, or its activations overflow";

/// The token at `u` in [0, 1) of the sum of the weights, added up in blocks of 1024 in ascending order.
int32_t at_share(std::span<const double> weights, double u);
/// In two steps: the block, by the blocks' sums, and what is left of the share there; the place in a block's weights.
inline constexpr int64_t kShareBlock = 1024;
struct ShareBlock {
  size_t block = 0;
  double left = 0;
};
ShareBlock block_at_share(std::span<const double> sums, double u);
int64_t place_in_block(std::span<const double> weights, double left);

/// The number in [0, 1) of a draw's position: Philox4x32-10 under the seed.
double share_of(uint64_t seed, uint64_t draw, uint64_t position);

Drawn draw_token(std::span<const float> logits, std::span<const int32_t> history, const SamplingOptions& options,
                 double u);

}  // namespace fpdist::generate
