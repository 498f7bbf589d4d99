#include "src/config/hybrids.hpp"

#include "src/core/words.hpp"

namespace fpdist::config {

data::PrefixLengths prefix_lengths(const generate::RolloutOptions& rollout) {
  data::PrefixLengths lengths{.low = data::parse_schedule("rollout.prefix_low", rollout.prefix_low),
                              .high = data::parse_schedule("rollout.prefix_high", rollout.prefix_high),
                              .alpha = rollout.prefix_alpha,
                              .beta = rollout.prefix_beta,
                              .min_tokens = rollout.prefix_min_tokens};
  lengths.check("rollout.prefix_");
  return lengths;
}

int64_t prefix_length(const data::PromptRow& prompt, int64_t place, int64_t step,
                      const generate::RolloutOptions& rollout) {
  return prefix_lengths(rollout).length(rollout.seed, step, static_cast<uint64_t>(place),
                                        std::ssize(prompt.demonstration));
}

std::vector<int32_t> begun(const data::PromptRow& prompt, int64_t prefix) {
  std::vector<int32_t> all = prompt.token;
  all.insert(all.end(), prompt.demonstration.begin(), prompt.demonstration.begin() + prefix);
  return all;
}

std::vector<int32_t> longest_begun(const data::PromptRow& prompt) {
  return begun(prompt, std::ssize(prompt.demonstration) - 1);
}

generate::SamplingOptions plain_sampling(const generate::SamplingOptions& sampling, int64_t num_hybrids) {
  generate::SamplingOptions of_plain = sampling;
  of_plain.num_generations -= num_hybrids;
  return of_plain;
}

generate::SamplingOptions hybrid_sampling(const generate::SamplingOptions& sampling, int64_t num_hybrids) {
  generate::SamplingOptions of_hybrids = sampling;
  of_hybrids.num_generations = num_hybrids, ++of_hybrids.seed;
  return of_hybrids;
}

std::string hybrids_text(const Config& config) {
  const int64_t hybrids = config.rollout.num_hybrids;
  return hybrids == 0 ? "" : text(hybrids, " of them behind the beginning of its demonstration, ");
}

}  // namespace fpdist::config
