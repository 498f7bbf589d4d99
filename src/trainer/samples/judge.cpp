#include "src/trainer/samples/judge.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "fpdist/comm/slow_work.hpp"
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

rewards::JudgedText text_of(const data::Sample& sample, const data::PromptRow& row) {
  return {.row = &row,
          .text = {},
          .token = {sample.token.begin() + sample.prompt_length, sample.token.end()},
          .finish_reason = sample.truncated ? "length" : "stop"};
}

}  // namespace

Judge::Judge(rewards::Rewards rewards, std::unique_ptr<data::Tokenizer> tokenizer, comm::World& world)
    : rewards_(std::move(rewards)), tokenizer_(std::move(tokenizer)), world_(world) {}

std::vector<rewards::JudgedText> Judge::texts_of(std::span<const data::Group> groups, const PromptRows& prompts) {
  std::vector<rewards::JudgedText> texts;
  std::vector<std::vector<int32_t>> ids;
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto answer = rewards::answer_of(*prompts[g], rewards_.answer_column());
    for (const data::Sample& sample : groups[g].sample) {
      texts.push_back(text_of(sample, *prompts[g]));
      texts.back().answer = answer;
      ids.push_back(texts.back().token);
      if (!sample.truncated) ids.back().pop_back();  // the stop token is no text
    }
  }
  if (!tokenizer_->refusal().empty()) return texts;  // ids alone: who judges them needs no text
  std::vector<data::RenderedText> decoded = tokenizer_->decode(ids);
  for (size_t i = 0; i < texts.size(); ++i) texts[i].text = std::move(decoded[i].text);
  return texts;
}

Judged Judge::judge(std::span<data::Group> groups, const PromptRows& prompts) {
  const auto ranks = index(world_.size()), rank = index(world_.rank());
  const size_t begin = groups.size() * rank / ranks, end = groups.size() * (rank + 1) / ranks;
  Judged judged{.value = {}, .first_own = samples_in(groups.first(begin)), .own = {}};
  const size_t count = rewards_.names().size();
  at::Tensor mine;
  {
    const comm::SlowWork slow(world_.communicator(), "judging completions");
    const PromptRows own(prompts.begin() + static_cast<std::ptrdiff_t>(begin),
                         prompts.begin() + static_cast<std::ptrdiff_t>(end));
    judged.own = texts_of(groups.subspan(begin, end - begin), own);
    const std::vector<rewards::Values> values = rewards_.judge(judged.own);
    mine = at::empty({static_cast<int64_t>(judged.own.size() * count)}, at::kDouble);
    double* next = mine.mutable_data_ptr<double>();
    for (size_t i = 0; i < judged.own.size(); ++i)
      for (const rewards::Values& of_one : values) *next++ = of_one[i].value_or(kNothing);
  }
  const at::Tensor all = comm::gather_parts(mine, world_.communicator()).all;
  const double* next = all.const_data_ptr<double>();
  std::vector<rewards::Values> values(count);
  judged.value.resize(count);
  for (int64_t i = 0; i < all.numel(); ++i) {
    const auto f = index(i) % count;
    judged.value[f].push_back(next[i]);
    values[f].push_back(std::isnan(next[i]) ? std::nullopt : std::optional<double>(next[i]));
  }
  const rewards::Values totals = rewards_.total(values);
  size_t at = 0;
  for (data::Group& group : groups)
    for (data::Sample& sample : group.sample) sample.reward = totals[at++];
  return judged;
}

std::map<std::string, double> reward_metrics(const Judged& judged, std::span<const std::string> names) {
  std::map<std::string, double> metrics;
  for (size_t f = 0; f < names.size(); ++f) {
    double sum = 0, squares = 0, count = 0;
    for (const double value : judged.value[f])
      if (!std::isnan(value)) sum += value, ++count;
    const double mean = count > 0 ? sum / count : kNothing;
    for (const double value : judged.value[f])
      if (!std::isnan(value)) squares += (value - mean) * (value - mean);
    metrics["rewards/" + names[f] + "/mean"] = mean;
    metrics["rewards/" + names[f] + "/std"] = count > 1 ? std::sqrt(squares / (count - 1)) : 0;
  }
  return metrics;
}

}  // namespace fpdist::trainer
