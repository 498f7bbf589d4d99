#pragma once
// Tests: samples with every odd shape that trees and plans must bear, whatever a method would say to them: ragged
// groups, groups of one, identical samples, a sample inside another, empty ones, prompts shared across groups,
// completions that share their first tokens, hand-made labels. What a method can train on: random_groups.hpp.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/data/sample.hpp"

namespace fpdist::test {

/// Tokens drawn from a tiny vocabulary, so that prefixes meet by accident at every depth as well.
inline std::vector<int32_t> random_tokens(Rng& rng, uint64_t most) {
  std::vector<int32_t> tokens(rng.below(most + 1));
  for (int32_t& token : tokens) token = static_cast<int32_t>(rng.below(3));
  return tokens;
}

inline data::Sample random_sample(Rng& rng, const std::vector<int32_t>& prompt) {
  data::Sample sample;
  sample.token = prompt;
  sample.prompt_length = static_cast<int32_t>(prompt.size());
  for (const int32_t token : random_tokens(rng, 9)) sample.token.push_back(token);
  sample.target = sample.token;
  for (size_t t = 0; t < sample.target.size(); ++t) {
    if (t < prompt.size() ? rng.below(8) > 0 : rng.below(8) == 0)
      sample.target[t] = data::kIgnore;
    else if (rng.below(16) == 0)
      sample.target[t] = static_cast<int32_t>(rng.below(5));  // labels of their own
  }
  return sample;
}

/// `pairs` true: two samples a group, as preference methods have them.
inline std::vector<data::Group> odd_groups(uint64_t seed, bool pairs = false) {
  Rng rng(seed, 0x7e57);
  std::vector<data::Group> groups(rng.below(7));
  const std::vector<int32_t> system = random_tokens(rng, 12);
  std::vector<int32_t> prompt;
  for (size_t g = 0; g < groups.size(); ++g) {
    groups[g].id = 100 + static_cast<int64_t>(g);
    if (rng.below(4) > 0) {  // else: the prompt of the group before
      prompt = rng.below(2) ? system : std::vector<int32_t>{};
      for (const int32_t token : random_tokens(rng, 6)) prompt.push_back(token);
    }
    const uint64_t samples = pairs ? 2 : 1 + rng.below(5);
    while (groups[g].sample.size() < samples) {
      std::vector<data::Sample>& all = groups[g].sample;
      const uint64_t shape = rng.below(8);
      if (shape == 0 && !all.empty()) {
        all.push_back(all.back());
      } else if (shape == 1 && !all.empty()) {  // contained in the one before
        data::Sample part = all.back();
        part.token.resize(rng.below(part.token.size() + 1));
        part.target.resize(part.token.size());
        all.push_back(part);
      } else {
        all.push_back(shape == 2 ? data::Sample{} : random_sample(rng, prompt));
      }
    }
  }
  return groups;
}

}  // namespace fpdist::test
