// The way through rewards: options name functions (builtin.cpp; what they look for in answers.cpp, shape.cpp) and a
// program (command_reward.cpp); here they judge together.
#include "fpdist/rewards/rewards.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/rewards/builtin.hpp"
#include "src/rewards/command_reward.hpp"

namespace fpdist::rewards {

struct Rewards::Impl {
  std::vector<std::string> names;
  std::vector<NamedReward> rewards;
  std::string answer_column;
  // Of the program; empty: there is none.
  std::function<SaidByName()> end_round;
  std::function<void()> give_up;
};

std::optional<std::string> answer_of(const data::PromptRow& row, const std::string& column) {
  const auto columns = nlohmann::json::parse(row.columns);
  const auto found = columns.find(column);
  if (found == columns.end() || found->is_null()) return std::nullopt;
  return found->is_string() ? found->get<std::string>() : found->dump();
}

void check_rewards(const RewardOptions& options, int64_t max_completion_length) {
  const size_t count = options.functions.size() + (options.command.empty() ? 0 : 1);
  check<ConfigError>(options.weights.empty() || options.weights.size() == count, "reward.weights has ",
                     options.weights.size(), " numbers, and there are ", count,
                     " rewards: one for each of reward.functions",
                     options.command.empty() ? "" : " and one for reward.command");
  for (const std::string& name : options.functions) (void)make_builtin(name, options, max_completion_length);
}

Rewards::Rewards(const RewardOptions& options, int64_t max_completion_length) : impl_(std::make_unique<Impl>()) {
  check_rewards(options, max_completion_length);
  const std::vector<double>& weights = options.weights;
  impl_->answer_column = options.answer_column;
  const auto weight = [&] { return weights.empty() ? 1.0 : weights[impl_->names.size()]; };
  for (const std::string& name : options.functions)
    add({name, make_builtin(name, options, max_completion_length), weight()});
  if (options.command.empty()) return;
  CommandJudge command = make_command_reward(options);
  add({"command", std::move(command.judge), weight()});
  impl_->end_round = std::move(command.end_round), impl_->give_up = std::move(command.give_up);
}
Rewards::~Rewards() = default;
Rewards::Rewards(Rewards&&) noexcept = default;
Rewards& Rewards::operator=(Rewards&&) noexcept = default;

void Rewards::add(NamedReward reward) {
  check<ConfigError>(std::isfinite(reward.weight), "the weight of reward ", reward.name, " is ", reward.weight,
                     ": it must be finite");
  const bool is_new = std::find(impl_->names.begin(), impl_->names.end(), reward.name) == impl_->names.end();
  check<ConfigError>(is_new, "there are two rewards ", reward.name, ": each has a name of its own");
  impl_->names.push_back(reward.name);
  impl_->rewards.push_back(std::move(reward));
}

const std::vector<std::string>& Rewards::names() const { return impl_->names; }
const std::string& Rewards::answer_column() const { return impl_->answer_column; }

std::vector<Values> Rewards::judge(std::span<const JudgedText> texts) {
  std::vector<Values> all;
  for (const auto& [name, function, weight] : impl_->rewards) {
    Values values = function(texts);
    check<DataError>(values.size() == texts.size(), "reward ", name, " gave ", values.size(), " values for ",
                     texts.size(), " completions: one each, or nothing in its place");
    for (size_t i = 0; i < values.size(); ++i)
      check<DataError>(!values[i] || std::isfinite(*values[i]), "reward ", name, " gave ", values[i].value_or(0),
                       " for completion ", i, " of prompt ", texts[i].row->prompt.substr(0, 200),
                       ": a reward is finite, or none");
    all.push_back(std::move(values));
  }
  return all;
}

SaidByName Rewards::end_round() { return impl_->end_round ? impl_->end_round() : SaidByName(); }

void Rewards::give_up() {
  if (impl_->give_up) impl_->give_up();
}

Values Rewards::total(std::span<const Values> by_name) const {
  Values sums(by_name.empty() ? 0 : by_name.front().size());
  for (size_t f = 0; f < by_name.size(); ++f)
    for (size_t i = 0; i < sums.size(); ++i)
      if (by_name[f][i]) sums[i] = sums[i].value_or(0) + impl_->rewards[f].weight * *by_name[f][i];
  return sums;
}

}  // namespace fpdist::rewards
