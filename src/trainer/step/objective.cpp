#include "src/trainer/step/objective.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace fpdist::trainer {
namespace {

void learn_prompt(data::Sample& sample) {
  std::copy_n(sample.token.begin(), sample.prompt_length, sample.target.begin());
}

}  // namespace

Objective::Objective(const Config& config, const data::VirtualTokens& behind)
    : options_(config.loss),
      behind_(behind),
      needs_(loss::needs_of(config.method, config.loss)),
      shape_(loss::spec_of(config.method, config.loss).group),
      is_mean_nll_(loss::spec_of(config.method, config.loss).is_mean_nll),
      loss_(loss::make_loss(config.method, config.loss)),
      look_(loss::make_look(config.method, config.loss)) {}

StepGroups Objective::prepare(std::span<const data::Group> groups, int64_t step) const {
  StepGroups prepared = prepare_for_loss(groups);
  if (behind_.count == 0) return prepared;
  auto all = std::make_shared<std::vector<data::Group>>(data::behind(behind_, prepared.all, step));
  prepared.all = *all, prepared.owner = std::move(all);
  return prepared;
}

StepGroups Objective::prepare_for_loss(std::span<const data::Group> groups) const {
  if (!needs_.advantage && !needs_.learns_prompt) return {.all = groups};
  auto filled = std::make_shared<std::vector<data::Group>>(groups.begin(), groups.end());
  StepGroups prepared{.all = *filled, .owner = filled};
  if (needs_.learns_prompt)
    for (data::Group& group : *filled) learn_prompt(group.sample.front());
  if (!needs_.advantage) return prepared;
  prepared.metrics = loss::fill_advantages(*filled, options_);
  prepared.metrics.merge(loss::completion_metrics(*filled));
  if (options_.mask_truncated_completions) loss::mask_truncated(*filled);
  return prepared;
}

}  // namespace fpdist::trainer
