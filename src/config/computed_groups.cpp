#include "src/config/computed_groups.hpp"

#include "fpdist/loss/spec.hpp"

namespace fpdist::config {

data::VirtualTokens virtual_tokens(const arch::Model& model) {
  return {.first_id = static_cast<int32_t>(model.vocab_size), .count = model.adapter.prefix.row_tokens()};
}

std::vector<data::Group> computed_groups(std::vector<data::Group> groups, const Settled& job) {
  const data::VirtualTokens tokens = virtual_tokens(job.model);
  if (tokens.count == 0) return groups;
  return data::behind(tokens, !loss::needs_of(job.config.method, job.config.loss).reference, groups);
}

}  // namespace fpdist::config
