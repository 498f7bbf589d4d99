#pragma once
// Tests: random groups with every odd shape, for laws that must hold on any data.

#include <algorithm>
#include <vector>

#include "fpdist/core/method.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/loss/spec.hpp"

namespace fpdist::test {

/// Groups for `method`: ragged sizes (groups of one for SFT and GRPO), shared and nested prefixes, a system prompt
/// across groups, identical samples, a sample contained in another, completions that share their first tokens,
/// one-token leaves, empty prompts and completions (never a sample without tokens), masked targets.
inline std::vector<data::Group> random_groups(Method method, int count, uint64_t seed, int32_t vocab = 64) {
  Rng rng(seed, 0x67);
  const auto tokens = [&](uint64_t below) {
    std::vector<int32_t> run(rng.below(below + 1));
    for (int32_t& token : run) token = static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab)));
    return run;
  };
  const std::vector<int32_t> system = tokens(12);
  const bool is_pair = loss::spec_of(method, {}).group == loss::GroupShape::kPair;
  std::vector<data::Group> groups;
  for (int g = 0; g < count; ++g) {
    data::Group group;
    group.id = g;
    std::vector<int32_t> prompt = rng.below(3) ? system : std::vector<int32_t>{};
    for (int32_t token : tokens(9)) prompt.push_back(token);
    const uint64_t members = is_pair ? 2 : method == Method::kSft ? 1 + rng.below(2) : 1 + rng.below(5);
    const std::vector<int32_t> trunk = tokens(5);  // first tokens that several completions share
    for (uint64_t m = 0; m < members; ++m) {
      data::Sample sample;
      sample.token = prompt;
      sample.prompt_length = static_cast<int32_t>(prompt.size());
      const uint64_t shape = rng.below(6);
      std::vector<int32_t> completion = shape < 3 ? trunk : std::vector<int32_t>{};
      if (shape != 1) {
        for (int32_t token : tokens(shape == 4 ? 1 : 7)) completion.push_back(token);
      }
      if (shape == 5 && m > 0) {  // the same completion again
        const data::Sample& first = group.sample.front();
        completion.assign(first.token.begin() + first.prompt_length, first.token.end());
      }
      sample.token.insert(sample.token.end(), completion.begin(), completion.end());
      if (sample.token.empty()) sample.token.push_back(1);
      sample.target.assign(sample.token.size(), data::kIgnore);
      for (size_t t = static_cast<size_t>(sample.prompt_length); t < sample.token.size(); ++t)
        if (is_pair || rng.below(8)) sample.target[t] = sample.token[t];
      if (method == Method::kSft && rng.below(4) == 0) sample.target = sample.token;  // loss on the prompt too
      if (method == Method::kPrm)
        for (int32_t& target : sample.target)
          if (target != data::kIgnore) target %= 2;
      if (method == Method::kKto) sample.reward = static_cast<double>(rng.below(2));
      if (method == Method::kGrpo) {
        sample.reward = static_cast<double>(rng.below(3));
        for (size_t t = 0; t < sample.token.size(); ++t) {
          const bool is_prompt = t < static_cast<size_t>(sample.prompt_length);
          sample.old_logp.push_back(is_prompt ? 0.0 : -4.2 + 0.3 * rng.normal());
        }
      }
      group.sample.push_back(std::move(sample));
    }
    if (method == Method::kReward) group.margin = 0.1 * static_cast<double>(rng.below(4));
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace fpdist::test
