#include "src/config/computed_groups.hpp"

#include <iterator>

#include "fpdist/loss/spec.hpp"

namespace fpdist::config {

data::VirtualTokens virtual_tokens(const Settled& job) {
  const arch::Prefix& prefix = job.model.adapter.prefix;
  // Keys in their rows' place predict nothing, and a reference has no row ahead of a sample's first token.
  const bool predicts = prefix.trains == arch::Prefix::Trains::kEmbeddings;
  return {.first_id = static_cast<int32_t>(job.model.vocab_size),
          .count = prefix.row_tokens(),
          .context_dim = prefix.context_dim,
          .prefixes = std::ssize(prefix.values),
          .keeps_first_target = predicts && !loss::needs_of(job.config.method, job.config.loss).reference,
          .drop = prefix.drop,
          .seed = job.config.train.seed};
}

std::vector<data::Group> computed_groups(std::vector<data::Group> groups, const Settled& job, int64_t step) {
  const data::VirtualTokens tokens = virtual_tokens(job);
  return tokens.count == 0 ? groups : data::behind(tokens, groups, step);
}

}  // namespace fpdist::config
