#include <algorithm>
#include <utility>
#include <vector>

#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {
namespace {

/// The prompt of one and the completion of the other, whose targets are what it learns.
data::Sample join(const data::Sample& prompt, const data::Sample& completion, int64_t max_length) {
  data::Sample joined;
  joined.prompt_length = prompt.prompt_length;
  joined.token.assign(prompt.token.begin(), prompt.token.begin() + prompt.prompt_length);
  joined.target.assign(joined.token.size(), data::kIgnore);
  joined.token.insert(joined.token.end(), completion.token.begin() + completion.prompt_length, completion.token.end());
  joined.target.insert(joined.target.end(), completion.target.begin() + completion.prompt_length,
                       completion.target.end());
  const size_t length = std::min(joined.token.size(), static_cast<size_t>(max_length));
  joined.token.resize(length), joined.target.resize(length);
  joined.prompt_length = std::min(joined.prompt_length, static_cast<int32_t>(length));
  joined.reward = 0;
  return joined;
}

}  // namespace

std::vector<data::Group> mismatched(std::span<const data::Group> groups, int64_t max_length) {
  std::vector<const data::Sample*> samples;
  std::vector<const data::Group*> owner;
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample) samples.push_back(&sample), owner.push_back(&group);
  std::vector<data::Group> result;
  for (size_t i = 0; i < samples.size(); ++i) {
    data::Group& group = result.emplace_back();
    group.id = static_cast<int64_t>(i);
    group.source = owner[i]->source, group.prefix_context = owner[i]->prefix_context;  // the prompt stands behind it
    group.sample.push_back(join(*samples[i], *samples[(i + samples.size() - 1) % samples.size()], max_length));
  }
  return result;
}

}  // namespace fpdist::loss
