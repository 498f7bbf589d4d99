#include "src/trainer/samples/judge.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <iterator>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/rewards/texts.hpp"
#include "src/comm/agreement.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/core/clock.hpp"

namespace fpdist::trainer {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

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

struct Judge::Round {
  Round(PromptRows rows, rewards::Rewards& judges) : prompts(std::move(rows)), rewards(judges) {}
  Round(const Round&) = delete;
  Round& operator=(const Round&) = delete;
  /// Of a round that was not finished: some error is on its way, which a program that judges must not hold up.
  ~Round() {
    if (!thread.joinable()) return;
    {
      const std::lock_guard lock(mutex);
      waiting.clear();
    }
    rewards.give_up();
    end();
    (void)rewards.end_round();
  }
  /// Waits for what has been taken.
  void end() {
    {
      const std::lock_guard lock(mutex);
      is_over = true;
    }
    changed.notify_all();
    if (thread.joinable()) thread.join();
  }

  const PromptRows prompts;
  rewards::Rewards& rewards;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::pair<size_t, data::Group>> waiting;
  bool is_over = false;
  // The thread's own, until it has ended.
  std::exception_ptr failure;
  std::vector<std::pair<size_t, size_t>> own;  // prompt and place in its group, of each text
  std::vector<rewards::JudgedText> texts;
  std::vector<rewards::Values> value;  // [names][texts]
  std::thread thread;
};

Judge::Judge(rewards::Rewards rewards, std::unique_ptr<data::Tokenizer> tokenizer, comm::World& world)
    : rewards_(std::move(rewards)), tokenizer_(std::move(tokenizer)), world_(world) {}
Judge::~Judge() = default;

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

void Judge::begin(PromptRows prompts) {
  round_ = nullptr;  // ends what still judges
  round_ = std::make_unique<Round>(std::move(prompts), rewards_);
}

void Judge::take(size_t prompt, const data::Group& group) {
  Round& round = *round_;
  {
    const std::lock_guard lock(round.mutex);
    round.waiting.emplace_back(prompt, group);
  }
  round.changed.notify_all();
  if (!round.thread.joinable()) round.thread = std::thread([this, &round] { judge_what_comes(round); });
}

/// On the round's thread, until the round is over or a reward has failed: what comes then nobody judges.
void Judge::judge_what_comes(Round& round) {
  try {
    for (;;) {
      std::vector<std::pair<size_t, data::Group>> taken;
      {
        std::unique_lock lock(round.mutex);
        round.changed.wait(lock, [&] { return round.is_over || !round.waiting.empty(); });
        taken = std::exchange(round.waiting, {});
      }
      if (taken.empty()) return;
      judge_some(taken, round);
    }
  } catch (...) {
    round.failure = std::current_exception();
  }
}

void Judge::judge_some(const std::vector<std::pair<size_t, data::Group>>& taken, Round& round) {
  std::vector<rewards::JudgedText> texts;
  for (const auto& [prompt, group] : taken) {
    const data::PromptRow& row = *round.prompts[prompt];
    const auto answer = rewards::answer_of(row, rewards_.answer_column());
    for (size_t i = 0; i < group.sample.size(); ++i) {
      texts.push_back(text_of(group.sample[i], row));
      texts.back().answer = answer;
      round.own.emplace_back(prompt, i);
    }
  }
  rewards::decode_texts(texts, *tokenizer_, stop_);
  const std::vector<rewards::Values> values = rewards_.judge(texts);
  round.value.resize(values.size());
  for (size_t f = 0; f < values.size(); ++f)
    round.value[f].insert(round.value[f].end(), values[f].begin(), values[f].end());
  std::ranges::move(texts, std::back_inserter(round.texts));
}

Judged Judge::finish(std::span<data::Group> groups) {
  const std::unique_ptr<Round> round = std::move(round_);
  comm::Communicator& world = world_.communicator();
  const auto start = Clock::now();
  std::string failure;
  try {
    const comm::SlowWork slow(world, "judging completions");
    round->end();
    if (round->failure) std::rethrow_exception(round->failure);
  } catch (const std::exception& error) {
    failure = error.what();
    if (failure.empty()) failure = "a reward has failed without a word";
  } catch (...) {
    failure = "a reward has thrown what is no std::exception";
  }
  at::Tensor waited = at::full({1}, seconds_since(start), at::kDouble);
  Judged judged{.value = {}, .total = {}, .own_sample = {}, .own = {}};
  judged.said = said_by_all(failure, rewards_.end_round(), world);
  world.all_reduce(waited, comm::ReduceOp::kMax);
  judged.waited_seconds = waited.item<double>();

  std::vector<size_t> first{0};  // sample of each group
  for (const data::Group& group : groups) first.push_back(first.back() + group.sample.size());
  const size_t samples = first.back(), names = rewards_.names().size(), a_sample = 1 + names;
  for (const auto& [prompt, place] : round->own) judged.own_sample.push_back(first[prompt] + place);
  judged.own = std::move(round->texts);
  std::vector<double> mine;  // of each sample its number and its values
  for (size_t i = 0; i < judged.own.size(); ++i) {
    mine.push_back(static_cast<double>(judged.own_sample[i]));
    for (const rewards::Values& of_one : round->value) mine.push_back(of_one[i].value_or(kNothing));
  }
  const at::Tensor all = comm::gather_parts(at::tensor(mine, at::kDouble), world).all;
  check(all.numel() == static_cast<int64_t>(samples * a_sample), "ranks have judged ", all.numel(), " numbers of ",
        samples, " completions, each of them once and by ", names, " rewards");
  judged.value.assign(names, rewards::Values(samples));
  const double* next = all.const_data_ptr<double>();
  for (size_t i = 0; i < samples; ++i, next += a_sample)
    for (size_t f = 0; f < names; ++f)
      if (!std::isnan(next[1 + f])) judged.value[f][static_cast<size_t>(next[0])] = next[1 + f];
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
