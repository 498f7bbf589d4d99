#include "src/trainer/samples/judge.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/rewards/texts.hpp"
#include "src/comm/agreement.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/core/index.hpp"

namespace fpdist::trainer {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

size_t samples_in(std::span<const data::Group> groups) {
  size_t count = 0;
  for (const data::Group& group : groups) count += group.sample.size();
  return count;
}

/// Collective: the sums of all ranks, or what was wrong on some.
rewards::SaidByName said_by_all(const std::string& failure, const rewards::SaidByName& mine,
                                comm::Communicator& world) {
  using Json = nlohmann::json;
  Json own{{"failure", failure}, {"said", Json::object()}};
  for (const auto& [name, said] : mine) own["said"][name] = Json::array({said.sum, said.count});
  rewards::SaidByName all;
  std::vector<int> failed;
  std::string words;
  const std::vector<std::string> ranks =
      comm::gather_texts(own.dump(-1, ' ', false, Json::error_handler_t::replace), world);
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const Json of_rank = Json::parse(ranks[rank]);
    if (of_rank["failure"] != "") failed.push_back(static_cast<int>(rank));
    if (failed.size() == 1 && words.empty()) words = of_rank["failure"];
    for (const auto& [name, said] : of_rank["said"].items()) {
      all[name].sum += said[0].get<double>(), all[name].count += said[1].get<int64_t>();
    }
  }
  check<DataError>(failed.empty(), words, ranks.size() > 1 ? text(" (on ", comm::ranks_text(failed), ")") : "");
  return all;
}

}  // namespace

Judge::Judge(rewards::Rewards rewards, std::unique_ptr<data::Tokenizer> tokenizer, comm::World& world)
    : rewards_(std::move(rewards)), tokenizer_(std::move(tokenizer)), world_(world) {}

void Judge::set_stops(const generate::SamplingOptions& sampling) {
  stop_token_ids_ = sampling.stop_token_ids, stop_ = sampling.stop;
}

rewards::JudgedText Judge::text_of(const data::Sample& sample, const data::PromptRow& row) const {
  const bool is_token =
      stop_.empty() || std::ranges::find(stop_token_ids_, sample.token.back()) != stop_token_ids_.end();
  return {.row = &row,
          .text = {},
          .token = {sample.token.begin() + sample.prompt_length, sample.token.end()},
          .finish_reason = sample.truncated ? "length"
                           : is_token       ? "stop"
                                            : "stop_string"};
}

std::vector<rewards::JudgedText> Judge::texts_of(std::span<const data::Group> groups, const PromptRows& prompts) {
  std::vector<rewards::JudgedText> texts;
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto answer = rewards::answer_of(*prompts[g], rewards_.answer_column());
    for (const data::Sample& sample : groups[g].sample) {
      texts.push_back(text_of(sample, *prompts[g]));
      texts.back().answer = answer;
    }
  }
  rewards::decode_texts(texts, *tokenizer_, stop_);
  return texts;
}

/// What this rank's completions are worth, a number each reward, completion after completion.
at::Tensor Judge::judge_own(std::span<const data::Group> groups, const PromptRows& prompts, Judged& judged) {
  judged.own = texts_of(groups, prompts);
  const std::vector<rewards::Values> values = rewards_.judge(judged.own);
  at::Tensor mine = at::empty({static_cast<int64_t>(judged.own.size() * values.size())}, at::kDouble);
  double* next = mine.mutable_data_ptr<double>();
  for (size_t i = 0; i < judged.own.size(); ++i)
    for (const rewards::Values& of_one : values) *next++ = of_one[i].value_or(kNothing);
  return mine;
}

Judged Judge::judge(std::span<data::Group> groups, const PromptRows& prompts) {
  const auto ranks = index(world_.size()), rank = index(world_.rank());
  const size_t begin = groups.size() * rank / ranks, end = groups.size() * (rank + 1) / ranks;
  Judged judged{.value = {}, .total = {}, .first_own = samples_in(groups.first(begin)), .own = {}};
  const size_t count = rewards_.names().size();
  at::Tensor mine = at::empty({0}, at::kDouble);
  std::string failure;
  try {
    const comm::SlowWork slow(world_.communicator(), "judging completions");
    const PromptRows own(prompts.begin() + static_cast<std::ptrdiff_t>(begin),
                         prompts.begin() + static_cast<std::ptrdiff_t>(end));
    mine = judge_own(groups.subspan(begin, end - begin), own, judged);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  judged.said = said_by_all(failure, rewards_.take_said(), world_.communicator());
  const at::Tensor all = comm::gather_parts(mine, world_.communicator()).all;
  const double* next = all.const_data_ptr<double>();
  judged.value.resize(count);
  for (int64_t i = 0; i < all.numel(); ++i)
    judged.value[index(i) % count].push_back(std::isnan(next[i]) ? std::nullopt : std::optional<double>(next[i]));
  judged.total = rewards_.total(judged.value);
  size_t at = 0;
  for (data::Group& group : groups)
    for (data::Sample& sample : group.sample) sample.reward = judged.total[at++];
  return judged;
}

std::map<std::string, double> reward_metrics(const Judged& judged, std::span<const std::string> names) {
  std::map<std::string, double> metrics;
  for (size_t f = 0; f < names.size(); ++f) {
    double sum = 0, squares = 0, count = 0;
    for (const std::optional<double>& value : judged.value[f])
      if (value) sum += *value, ++count;
    const double mean = count > 0 ? sum / count : kNothing;
    for (const std::optional<double>& value : judged.value[f])
      if (value) squares += (*value - mean) * (*value - mean);
    metrics["rewards/" + names[f] + "/mean"] = mean;
    metrics["rewards/" + names[f] + "/std"] = count > 1 ? std::sqrt(squares / (count - 1)) : 0;
  }
  for (const auto& [name, said] : judged.said)
    metrics["rewards/command/" + name] = said.sum / static_cast<double>(said.count);
  return metrics;
}

}  // namespace fpdist::trainer
