#include "src/trainer/samples/judge.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/rewards/texts.hpp"
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
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto answer = rewards::answer_of(*prompts[g], rewards_.answer_column());
    for (const data::Sample& sample : groups[g].sample) {
      texts.push_back(text_of(sample, *prompts[g]));
      texts.back().answer = answer;
    }
  }
  rewards::decode_texts(texts, *tokenizer_);
  return texts;
}

Judged Judge::judge(std::span<data::Group> groups, const PromptRows& prompts) {
  const auto ranks = index(world_.size()), rank = index(world_.rank());
  const size_t begin = groups.size() * rank / ranks, end = groups.size() * (rank + 1) / ranks;
  Judged judged{.value = {}, .total = {}, .first_own = samples_in(groups.first(begin)), .own = {}};
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
  return metrics;
}

}  // namespace fpdist::trainer
