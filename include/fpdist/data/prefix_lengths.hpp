#pragma once
// data: how much of a demonstration a hybrid completion begins with: Huang et al., "Blending supervised and
// reinforcement fine-tuning with prefix sampling" (Prefix-RFT, 2025). A share is drawn between two bounds that move
// over the run's steps; a draw is a pure function of (seed, step, id).

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace fpdist::data {

enum class Decay { kConst, kLinear, kCosine };
inline constexpr std::array<std::pair<Decay, std::string_view>, 3> kDecays{
    {{Decay::kConst, "const"}, {Decay::kLinear, "linear_decay"}, {Decay::kCosine, "cosine_decay"}}};

/// A bound over steps t = 0, 1, ...: `delay_value` for the first `delay_steps`; then, t counted from there, a rise from
/// 0 to `first` over `warmup_steps`; then from `first` to `last` over `steps`, and `last` from there on. const: `first`
/// in the place of what decays.
struct ShareSchedule {
  Decay decay = Decay::kConst;
  double first = 0.95, last = 0.05;
  int64_t steps = 1;
  int64_t warmup_steps = 0;
  int64_t delay_steps = 0;
  double delay_value = 0;

  double at(int64_t step) const;
};

/// "DECAY,FIRST[,LAST[,STEPS[,WARMUP_STEPS[,DELAY_STEPS[,DELAY_VALUE]]]]]", as programs and configurations write one.
/// Throws ConfigError naming `what` for anything else.
ShareSchedule parse_schedule(const std::string& what, const std::string& words);

/// The paper's: a share that is uniform between a bound that falls from 0.95 to 0.05 and 0.95.
struct PrefixLengths {
  ShareSchedule low{.decay = Decay::kCosine}, high{};
  double alpha = 1, beta = 1;  ///< of the Beta distribution between the bounds: 1 and 1 is uniform
  int64_t min_tokens = 1;

  /// Throws ConfigError naming the field, behind `keys`: shares outside of 0 to 1, steps below 1, counts below 0, a
  /// Beta of none.
  void check(const std::string& keys = "") const;
  /// Share of a demonstration; the lower bound is whichever is lower.
  double share(uint64_t seed, int64_t step, uint64_t id) const;
  /// Tokens of a demonstration of `tokens`: its share rounded down, at least min_tokens, never all of it.
  int64_t length(uint64_t seed, int64_t step, uint64_t id, int64_t tokens) const;
};

}  // namespace fpdist::data
