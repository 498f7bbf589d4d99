#include "src/data/virtual_tokens.hpp"

#include <cmath>
#include <map>
#include <numeric>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"

namespace fpdist::data {
namespace {

constexpr uint64_t kStream = 0x70726566;  // of draws

bool is_dropped(const VirtualTokens& tokens, const Group& group, int64_t step) {
  if (step == 0 || tokens.drop == 0) return false;
  const auto drawn = philox(tokens.seed ^ kStream, static_cast<uint64_t>(group.id), static_cast<uint64_t>(step));
  return drawn[0] * 0x1.0p-32 < tokens.drop;
}

/// Different contexts, numbered as they come.
using Contexts = std::map<std::vector<float>, int32_t>;

int32_t number_of(const std::vector<float>& context, Contexts& seen) {
  return seen.try_emplace(context, static_cast<int32_t>(seen.size())).first->second;
}

void check_context(const VirtualTokens& tokens, const Group& group) {
  check<DataError>(std::ssize(group.prefix_context) == tokens.context_dim, "group ", group.id, ": its context has ",
                   group.prefix_context.size(), " numbers, adapter.context_dim is ", tokens.context_dim,
                   ": give every group as many");
  for (const float number : group.prefix_context)
    check<DataError>(std::isfinite(number), "group ", group.id, ": its context holds ", number,
                     ": give it finite numbers");
}

/// The first id of the group's prefix.
int32_t first_of(const VirtualTokens& tokens, const Group& group, Contexts& seen) {
  if (tokens.context_dim > 0) {
    check_context(tokens, group);
    return tokens.first_id + number_of(group.prefix_context, seen) * static_cast<int32_t>(tokens.count);
  }
  if (tokens.prefixes == 0) return tokens.first_id;
  check<DataError>(group.source >= 0 && group.source < tokens.prefixes, "group ", group.id, ": its source is ",
                   group.source, ", and there are ", tokens.prefixes,
                   " prefixes (adapter.prefix_values): give it the number of one, from 0");
  return tokens.first_id + static_cast<int32_t>(group.source * tokens.count);
}

void put_behind(std::span<const int32_t> ids, bool keeps_first_target, Sample& sample) {
  if (!keeps_first_target && !sample.target.empty()) sample.target.front() = kIgnore;
  sample.token.insert(sample.token.begin(), ids.begin(), ids.end());
  sample.target.insert(sample.target.begin(), ids.size(), kIgnore);
  for (std::vector<double>* of_tokens : {&sample.old_logp, &sample.ref_logp, &sample.weight})
    if (!of_tokens->empty()) of_tokens->insert(of_tokens->begin(), ids.size(), 0.0);
  sample.prompt_length += static_cast<int32_t>(ids.size());
}

}  // namespace

std::vector<Group> behind(const VirtualTokens& tokens, std::span<const Group> groups, int64_t step) {
  std::vector<Group> all(groups.begin(), groups.end());
  std::vector<int32_t> ids(index(tokens.count));
  Contexts seen;
  for (Group& group : all) {
    std::iota(ids.begin(), ids.end(), first_of(tokens, group, seen));
    if (is_dropped(tokens, group, step)) continue;
    for (Sample& sample : group.sample) put_behind(ids, tokens.keeps_first_target, sample);
  }
  return all;
}

}  // namespace fpdist::data
