#include "src/data/virtual_tokens.hpp"

#include <numeric>

#include "src/core/index.hpp"

namespace fpdist::data {

void put_behind(const VirtualTokens& tokens, bool keeps_first_target, Sample& sample) {
  const size_t count = index(tokens.count);
  if (!keeps_first_target && !sample.target.empty()) sample.target.front() = kIgnore;
  std::vector<int32_t> ids(count);
  std::iota(ids.begin(), ids.end(), tokens.first_id);
  sample.token.insert(sample.token.begin(), ids.begin(), ids.end());
  sample.target.insert(sample.target.begin(), count, kIgnore);
  for (std::vector<double>* of_tokens : {&sample.old_logp, &sample.ref_logp, &sample.weight})
    if (!of_tokens->empty()) of_tokens->insert(of_tokens->begin(), count, 0.0);
  sample.prompt_length += static_cast<int32_t>(count);
}

std::vector<Group> behind(const VirtualTokens& tokens, bool keeps_first_target, std::span<const Group> groups) {
  std::vector<Group> all(groups.begin(), groups.end());
  for (Group& group : all)
    for (Sample& sample : group.sample) put_behind(tokens, keeps_first_target, sample);
  return all;
}

}  // namespace fpdist::data
