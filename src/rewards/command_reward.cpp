#include "src/rewards/command_reward.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"
#include "src/files/process.hpp"

namespace fpdist::rewards {
namespace {

using Json = nlohmann::json;

/// What was wrong with one try.
struct Failed {
  std::string what;
};

constexpr double kLookMs = 100;  // how long nobody sees that the round was given up

std::vector<std::string> words_of(const std::vector<std::string>& command) {
  if (command.size() != 1) return command;
  std::istringstream all(command.front());
  std::vector<std::string> words;
  for (std::string word; all >> word;) words.push_back(word);
  check<DataError>(!words.empty(), "reward.command is blank: give a program");
  return words;
}

std::string line_of(const JudgedText& one, int64_t id) {
  const nlohmann::ordered_json line{{"id", id},
                                    {"prompt", Json::parse(one.row->prompt)},
                                    {"completion", one.text},
                                    {"completion_ids", one.token},
                                    {"finish_reason", one.finish_reason},
                                    {"columns", Json::parse(one.row->columns)}};
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// The completions of one round that are not judged yet, by id.
class Unjudged {
 public:
  Unjudged(std::span<const JudgedText> texts, int64_t first_id)
      : texts_(texts), first_(first_id), values_(texts.size()) {
    for (size_t i = 0; i < texts.size(); ++i) open_[first_id + static_cast<int64_t>(i)] = i;
  }
  bool done() const { return open_.empty(); }
  std::string lines() const {
    std::string all;
    for (const auto& [id, at] : open_) all += line_of(texts_[at], id);
    return all;
  }
  std::string first_open() const { return text("completion ", open_.begin()->first); }
  Values values() const { return values_; }
  const SaidByName& said() const { return said_; }

  /// One line of the program's.
  void take(const std::string& line) {
    const Json answer = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const std::string shown = line.substr(0, 200);
    if (!answer.is_object() || !answer.contains("id") || !answer.contains("reward"))
      throw Failed{text("wrote what is no answer {\"id\", \"reward\"}: ", shown)};
    const Json &id = answer["id"], &reward = answer["reward"];
    if (!id.is_number_integer()) throw Failed{text("wrote an id that is no number: ", shown)};
    const auto at = open_.find(id.get<int64_t>());
    if (at == open_.end()) {
      const int64_t last = first_ + std::ssize(texts_);
      const bool is_known = id >= first_ && id < last;
      throw Failed{text(is_known ? "answered twice: " : "answered what it was not asked: ", shown)};
    }
    if (!reward.is_number() && !reward.is_null())
      throw Failed{text("wrote a reward that is neither a number nor null: ", shown)};
    if (answer.contains("metrics")) take_metrics(answer["metrics"], shown);
    if (reward.is_number()) values_[at->second] = reward.get<double>();
    open_.erase(at);
  }

 private:
  void take_metrics(const Json& metrics, const std::string& shown) {
    const auto is_number = [](const Json& one) { return one.is_number() && std::isfinite(one.get<double>()); };
    if (!metrics.is_object() || !std::all_of(metrics.begin(), metrics.end(), is_number))
      throw Failed{text("wrote metrics that are no object of numbers: ", shown)};
    for (const auto& [name, value] : metrics.items()) {
      SaidNumbers& all = said_[name];
      all.sum += value.get<double>(), ++all.count;
    }
  }

  std::span<const JudgedText> texts_;
  int64_t first_;
  std::map<int64_t, size_t> open_;
  Values values_;
  SaidByName said_;
};

class CommandReward {
 public:
  CommandReward(std::vector<std::string> command, double timeout) : command_(std::move(command)), timeout_(timeout) {
    start();
  }

  Values judge(std::span<const JudgedText> texts) {
    if (process_ == nullptr) start();
    Unjudged left(texts, next_id_);
    next_id_ += std::ssize(texts);
    while (!left.done()) {
      try {
        run(left);
      } catch (const Failed& failed) {
        const std::string end = process_->end(std::chrono::milliseconds(200));
        check<DataError>(!std::exchange(was_restarted_, true), "reward.command ", command_.front(), " ", failed.what,
                         " (", left.first_open(), " has no reward; it ended with ", end,
                         "); it was started once more before this: run it by hand on such a line");
        start();
        spent_ = 0;
      }
    }
    for (const auto& [name, here] : left.said()) {
      SaidNumbers& all = said_[name];
      all.sum += here.sum, all.count += here.count;
    }
    return left.values();
  }
  void give_up() { is_given_up_ = true; }
  SaidByName end_round() {
    spent_ = 0, was_restarted_ = false, is_given_up_ = false;
    return std::exchange(said_, {});
  }

 private:
  void start() {
    process_ = std::make_unique<files::Process>(command_);
    heard_.clear(), errors_open_ = true;
  }

  void run(Unjudged& left) {
    const auto begun = Clock::now();
    const std::string lines = left.lines();
    for (size_t sent = 0; !left.done();) {
      const double seconds = timeout_ - spent_ - seconds_since(begun);
      if (seconds <= 0) throw Failed{text("was not done after reward.timeout_seconds ", timeout_)};
      if (is_given_up_) {
        (void)process_->end(std::chrono::milliseconds(0));
        process_ = nullptr;
        throw DataError(text("reward.command ", command_.front(), ": the round was given up"));
      }
      const short wanted = sent < lines.size() ? POLLIN | POLLOUT : POLLIN;
      std::array<pollfd, 2> polled{{{process_->socket(), wanted, 0}, {process_->errors(), POLLIN, 0}}};
      const nfds_t count = errors_open_ ? 2 : 1;
      ::poll(polled.data(), count, static_cast<int>(std::min(seconds * 1000, kLookMs)) + 1);
      process_->drain_errors();
      errors_open_ = count == 2 && (polled[1].revents & POLLHUP) == 0;
      if (sent < lines.size()) send(lines, sent);
      receive(left);
    }
    spent_ += seconds_since(begun);
  }

  void send(const std::string& lines, size_t& sent) {
    const ssize_t now = ::send(process_->socket(), lines.data() + sent, lines.size() - sent, MSG_NOSIGNAL);
    if (now > 0) sent += index(now);
    if (now < 0 && errno != EINTR && errno != EAGAIN) throw Failed{"is gone"};
  }

  void receive(Unjudged& left) {
    std::array<char, size_t{1} << 16> buffer;
    const ssize_t got = ::recv(process_->socket(), buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) throw Failed{"is gone"};
    heard_.append(buffer.data(), index(got));
    size_t begin = 0;
    for (size_t end = heard_.find('\n'); end != std::string::npos; end = heard_.find('\n', begin)) {
      const std::string line = heard_.substr(begin, end - begin);
      begin = end + 1;
      if (line.find_first_not_of(" \r") != std::string::npos) left.take(line);
    }
    heard_.erase(0, begin);
  }

  std::vector<std::string> command_;
  double timeout_;
  std::unique_ptr<files::Process> process_;
  bool errors_open_ = true;
  std::string heard_;  ///< of a line that has not ended
  SaidByName said_;
  // Of this round.
  std::atomic<bool> is_given_up_ = false;
  double spent_ = 0;
  bool was_restarted_ = false;
  int64_t next_id_ = 0;
};

}  // namespace

CommandJudge make_command_reward(const RewardOptions& options) {
  const auto command = std::make_shared<CommandReward>(words_of(options.command), options.timeout_seconds);
  return {.judge = [command](std::span<const JudgedText> texts) { return command->judge(texts); },
          .end_round = [command] { return command->end_round(); },
          .give_up = [command] { command->give_up(); }};
}

}  // namespace fpdist::rewards
