// One thread, no locks: a worker's socket and its standard error are polled together, whatever is ready moves on.

#include "src/data/text/text_workers.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/data/text/worker_frames.hpp"
#include "src/files/process.hpp"

namespace fpdist::data {
namespace {

constexpr size_t kHead = sizeof(uint32_t);
constexpr size_t kNoFrame = SIZE_MAX;

}  // namespace

class TextWorkers::Worker {
 public:
  Worker(const std::vector<std::string>& command, double answer_seconds)
      : process_(command), limit_(answer_seconds), heard_(Clock::now()) {}

  bool idle() const { return frame_ == kNoFrame; }
  size_t frame() const { return frame_; }

  /// Sends `payload`, frame `number` of the run, as far as the socket takes it.
  void give(std::string_view payload, size_t number) {
    frame_ = number;
    const auto length = static_cast<uint32_t>(payload.size());
    out_.assign(reinterpret_cast<const char*>(&length), kHead);
    out_.append(payload);
    sent_ = 0;
    heard_ = Clock::now();
    send();
  }

  std::array<pollfd, 2> polled() const {
    const short wanted = sent_ < out_.size() ? POLLIN | POLLOUT : POLLIN;
    return {{{process_.socket(), wanted, 0}, {process_.errors(), POLLIN, 0}}};
  }
  /// Milliseconds until it has been silent for too long.
  int patience() const { return static_cast<int>(std::clamp((limit_ - seconds_since(heard_)) * 1000, 0.0, 1e6)) + 1; }

  /// Moves what can move. What is wrong throws LostFrame.
  void move() {
    process_.drain_errors();
    if (sent_ < out_.size()) send();
    receive();
    if (seconds_since(heard_) > limit_)
      lose(text("said nothing for ", limit_, " seconds and was stopped"), std::chrono::milliseconds(0));
  }

  /// The next whole frame that it sent, or nothing.
  std::optional<std::string> take() {
    if (in_.size() < kHead) return std::nullopt;
    uint32_t length = 0;
    std::memcpy(&length, in_.data(), kHead);
    if (length > kMaxFrame) lose("sent what is no answer", std::chrono::milliseconds(0));
    if (in_.size() < kHead + length) return std::nullopt;
    std::string payload = in_.substr(kHead, length);
    in_.erase(0, kHead + length);
    return payload;
  }

  void answered() { frame_ = kNoFrame; }
  bool greeted = false;

 private:
  void send() {
    while (sent_ < out_.size()) {
      const ssize_t sent = ::send(process_.socket(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (sent < 0) return lost();
      sent_ += static_cast<size_t>(sent);
      heard_ = Clock::now();
    }
  }

  void receive() {
    std::array<char, size_t{1} << 16> buffer;
    for (;;) {
      const ssize_t got = ::recv(process_.socket(), buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (got <= 0) return lost();
      in_.append(buffer.data(), static_cast<size_t>(got));
      heard_ = Clock::now();
    }
  }

  /// It is gone; what it sent before may still be an answer and a reason.
  void lost() {
    if (!in_.empty() && in_.size() >= kHead && in_[kHead] == '!') return;
    lose("is gone", std::chrono::milliseconds(500));
  }
  [[noreturn]] void lose(const std::string& how, std::chrono::milliseconds grace) {
    throw LostFrame{frame_, text("the text worker ", how, ": ", process_.end(grace))};
  }

  files::Process process_;
  double limit_;
  Clock::time_point heard_;
  std::string out_, in_;
  size_t sent_ = 0, frame_ = kNoFrame;
};

TextWorkers::TextWorkers(std::vector<std::string> command, const TextWorkerOptions& options)
    : command_(std::move(command)), options_(options) {}
TextWorkers::~TextWorkers() = default;

TextWorkers::Worker& TextWorkers::start() {
  return *worker_.emplace_back(std::make_unique<Worker>(command_, options_.answer_seconds));
}

void TextWorkers::wait() {
  std::vector<pollfd> polled;
  int patience = 1'000'000;
  for (const auto& worker : worker_) {
    if (worker->idle() && worker->greeted) continue;
    for (const pollfd& one : worker->polled()) polled.push_back(one);
    patience = std::min(patience, worker->patience());
  }
  ::poll(polled.data(), polled.size(), patience);
  for (const auto& worker : worker_)
    if (!worker->idle() || !worker->greeted) worker->move();
}

const std::string& TextWorkers::greeting() {
  if (!greeting_.empty()) return greeting_;
  try {
    Worker& first = worker_.empty() ? start() : *worker_.front();
    for (;;) {
      if (std::optional<std::string> payload = first.take()) {
        greeting_ = std::move(*payload);
        first.greeted = true;
        return greeting_;
      }
      wait();
    }
  } catch (const LostFrame& lost) {
    worker_.clear();
    throw DataError(lost.what);
  }
}

void TextWorkers::give(std::span<const std::string> frames, size_t& next) {
  for (const auto& worker : worker_)
    if (next < frames.size() && worker->idle()) {
      worker->give(frames[next], next);
      ++next;
    }
  while (next < frames.size() && std::ssize(worker_) < options_.workers) {
    start().give(frames[next], next);
    ++next;
  }
}

std::vector<std::string> TextWorkers::run(std::span<const std::string> frames) {
  (void)greeting();
  std::vector<std::string> answers(frames.size());
  size_t next = 0, answered = 0;
  try {
    while (answered < frames.size()) {
      give(frames, next);
      wait();
      for (const auto& worker : worker_)
        while (std::optional<std::string> payload = worker->take()) {
          if (!std::exchange(worker->greeted, true)) continue;
          answers[worker->frame()] = std::move(*payload);
          worker->answered();
          ++answered;
        }
    }
  } catch (const LostFrame&) {
    worker_.clear();
    throw;
  }
  return answers;
}

}  // namespace fpdist::data
