#include "src/loss/prefix_advantages.hpp"

#include <cstdint>
#include <map>
#include <vector>

namespace fpdist::loss {
namespace {

using Samples = std::vector<data::Sample*>;

double mean_reward(const Samples& samples) {
  if (samples.size() < 2) return 0;
  double sum = 0;
  for (const data::Sample* sample : samples) sum += *sample->reward;
  return sum / static_cast<double>(samples.size());
}

std::vector<int32_t> prefix_of(const data::Sample& sample) {
  const auto begin = sample.token.begin() + sample.prompt_length;
  return {begin, begin + sample.prefix_length};
}

}  // namespace

void fill_prefix_advantages(data::Group& group, double scale) {
  std::map<std::vector<int32_t>, Samples> by_prefix;  // plain rollouts have the empty one
  for (data::Sample& sample : group.sample)
    if (sample.reward) by_prefix[prefix_of(sample)].push_back(&sample);
  const auto plain = by_prefix.find({});
  const double plain_mean = plain == by_prefix.end() ? 0 : mean_reward(plain->second);
  for (const auto& [prefix, samples] : by_prefix) {
    const double mean = mean_reward(samples);
    for (data::Sample* sample : samples) {
      if (sample->advantage) continue;
      sample->advantage = (*sample->reward - mean) / scale;
      if (!prefix.empty())
        sample->prefix_advantage = (*sample->reward - mean - plain_mean) / static_cast<double>(samples.size()) / scale;
    }
  }
}

}  // namespace fpdist::loss
