#include "src/trainer/samples/hybrid_rollouts.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "fpdist/generate/generate.hpp"
#include "src/config/hybrids.hpp"

namespace fpdist::trainer {
namespace {

/// The sample of a prompt that ends in `prefix`, as one whose completion begins with it.
data::Sample as_hybrid(data::Sample sample, size_t prefix) {
  const auto length = static_cast<int32_t>(prefix);
  sample.prompt_length -= length, sample.prefix_length = length;
  const auto begin = sample.token.begin() + sample.prompt_length;
  std::copy(begin, begin + length, sample.target.begin() + sample.prompt_length);
  sample.old_logp.clear();  // nobody has those of the demonstration
  return sample;
}

void append(data::Group& group, const data::Group& hybrids, size_t prefix) {
  std::ranges::transform(hybrids.sample, std::back_inserter(group.sample),
                         [&](const data::Sample& one) { return as_hybrid(one, prefix); });
}

}  // namespace

std::vector<data::Group> roll_out_hybrids(Trainer& trainer, std::span<const std::vector<int32_t>> prompts,
                                          std::span<const std::vector<int32_t>> begun,
                                          const generate::SamplingOptions& sampling, int64_t num_hybrids,
                                          uint64_t first_prompt, generate::GenerationReport& report,
                                          const RolledOut& finished) {
  if (num_hybrids == 0) return trainer.roll_out(prompts, sampling, first_prompt, &report, finished);
  const auto prefix = [&](size_t prompt) { return begun[prompt].size() - prompts[prompt].size(); };
  // Hybrids first: they are few, and the others are judged while more of them are decoded.
  std::map<size_t, data::Group> taken;  // on this rank, which takes the same prompts' other completions
  const std::vector<data::Group> hybrids =
      trainer.roll_out(begun, config::hybrid_sampling(sampling, num_hybrids), first_prompt, &report,
                       [&](size_t prompt, const data::Group& group) { taken[prompt] = group; });
  generate::GenerationReport plain;
  std::vector<data::Group> groups = trainer.roll_out(prompts, config::plain_sampling(sampling, num_hybrids),
                                                     first_prompt, &plain, [&](size_t prompt, data::Group group) {
                                                       append(group, taken.at(prompt), prefix(prompt));
                                                       finished(prompt, group);
                                                     });
  report += plain;
  for (size_t p = 0; p < groups.size(); ++p) append(groups[p], hybrids[p], prefix(p));
  return groups;
}

}  // namespace fpdist::trainer
