#pragma once
// data: samples and groups. A sample is one token sequence with its targets; a group is the samples of one prompt whose
// loss belongs together (a preference pair, G rollouts, one SFT row).

#include <cstdint>
#include <optional>
#include <vector>

namespace fpdist::data {

/// Marks a position that is no supervised target (Transformers' convention).
inline constexpr int32_t kIgnore = -100;

struct Sample {
  std::vector<int32_t> token;       ///< [L] prompt and completion
  std::vector<int32_t> target;      ///< [L] target[t] is predicted from token t-1; kIgnore where nothing is supervised.
                                    ///< target[0] has no source row and is never an edge, whatever it holds.
  int32_t prompt_length = 0;        ///< tokens of the prompt (0 for SFT rows given as input_ids + labels)
  std::vector<double> old_logp;     ///< empty, or [L]: log-prob of token t under the sampling policy (0 in the prompt)
  std::vector<double> ref_logp;     ///< empty, or [L]: the same under the reference model; where the data have a sum
                                    ///< alone, each of the completion's tokens has an even share
  std::optional<double> reward;     ///< GRPO: reward of the completion; KTO: 1 where it is wanted, 0 where it is not
  std::optional<double> advantage;  ///< GRPO: given, or filled in from rewards by loss::fill_advantages
  bool truncated = false;           ///< the completion was cut before its end: by its sampler or by data.max_length
  std::vector<double> weight = {};  ///< empty: 1 each; or [L]: what the loss of target t is multiplied by (sft)
  int32_t prefix_length = 0;        ///< GRPO: tokens of the completion, its first, that a demonstration gave
  std::optional<double> prefix_advantage = {};  ///< of these, where it is another than the completion's
  int64_t length() const { return static_cast<int64_t>(token.size()); }
};

/// Preference groups hold exactly two samples: chosen first, rejected second.
struct Group {
  int64_t id = 0;                     ///< position in the data set (file order)
  std::vector<Sample> sample;         ///< at least one
  std::optional<double> margin;       ///< reward modelling: how much better `chosen` is
  std::optional<double> weight = {};  ///< of a pair: what its loss is multiplied by; nothing: 1
  int32_t source = -1;                ///< number of the prefix that it stands behind (arch::Prefix::values); -1: none
  std::vector<float> prefix_context = {};  ///< what its prefix is made of (arch::Prefix::context_dim); empty: nothing
};

}  // namespace fpdist::data
