#include "src/trainer/saving/state_saver.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>
#include <sstream>
#include <utility>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/core/clock.hpp"
#include "src/trainer/weights/weight_state.hpp"

namespace fpdist::trainer {
namespace {

using checkpoint::StateFile, checkpoint::StatePiece;

constexpr char kFailed = '!';  // begins what a rank says of a thread that has thrown

template <typename Result>
bool is_ready(const std::future<Result>& future) {
  return !future.valid() || future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

/// What the thread has come to, in a line.
std::string words_of(std::future<StateFile>& shard) {
  try {
    const StateFile file = shard.get();
    return text(file.name, ' ', file.size, ' ', file.xxh3_128);
  } catch (const std::exception& error) {
    return kFailed + std::string(error.what());
  }
}

StateFile file_of(const std::string& words) {
  StateFile file;
  std::istringstream(words) >> file.name >> file.size >> file.xxh3_128;
  return file;
}

}  // namespace

std::string StateSaver::doing() const {
  if (phase_ == Phase::kNone) return "";
  return text(phase_ == Phase::kWriting ? "writing " : "committing ", directory_);
}

std::vector<StatePiece> StateSaver::copied_pieces() {
  size_t next = 0;
  return state_pieces(weights_, [&](const at::Tensor& part) {
    const at::Tensor host = job_.device->download(part);
    if (!part.device().is_cpu()) return host;  // a copy already
    if (next == copies_.size()) copies_.push_back(at::empty_like(host));
    return copies_[next++].copy_(host);
  });
}

void StateSaver::begin(const std::string& directory, checkpoint::StateTexts texts, std::function<void()> saved) {
  finish();
  const auto begin = Clock::now();
  start(directory, std::move(texts), std::move(saved), copied_pieces());
  seconds_.waited = seconds_since(begin);
}

void StateSaver::save(const std::string& directory, checkpoint::StateTexts texts, std::function<void()> saved) {
  finish();
  seconds_.waited = 0;
  start(directory, std::move(texts), std::move(saved),
        state_pieces(weights_, [&](const at::Tensor& part) { return job_.device->download(part).contiguous(); }));
  finish();
}

void StateSaver::start(const std::string& directory, checkpoint::StateTexts texts, std::function<void()> saved,
                       std::vector<StatePiece> pieces) {
  directory_ = directory, texts_ = std::move(texts), saved_ = std::move(saved);
  shard_ = std::async(std::launch::async,
                      [this, rank = job_.world.rank(), ranks = job_.world.size(), own = std::move(pieces)] {
                        const auto begin = Clock::now();
                        StateFile file = checkpoint::write_state_shard(directory_, rank, ranks, own);
                        thread_seconds_ = seconds_since(begin);
                        return file;
                      });
  phase_ = Phase::kWriting;
}

bool StateSaver::is_done_everywhere() const {
  at::Tensor busy = at::full({1}, is_ready(shard_) && is_ready(commit_) ? 0 : 1, at::kInt);
  job_.world.communicator().all_reduce(busy, comm::ReduceOp::kMax);
  return busy.item<int32_t>() == 0;
}

void StateSaver::go_on() {
  if (is_done_everywhere()) phase_ == Phase::kWriting ? commit() : end();
}

void StateSaver::advance() {
  if (phase_ == Phase::kNone) return;
  const auto start = Clock::now();
  go_on();
  seconds_.waited += seconds_since(start);
}

void StateSaver::finish() {
  while (phase_ != Phase::kNone) {
    const auto start = Clock::now();
    {
      const comm::SlowWork slow(job_.world.communicator(), doing());
      if (shard_.valid()) shard_.wait();
      if (commit_.valid()) commit_.wait();
    }
    go_on();
    seconds_.waited += seconds_since(start);
  }
}

void StateSaver::commit() {
  comm::Communicator& world = job_.world.communicator();
  const std::vector<std::string> all = comm::gather_texts(words_of(shard_), world);
  for (size_t rank = 0; rank < all.size(); ++rank)
    if (all[rank][0] == kFailed) fail(text("rank ", rank, ": ", all[rank].substr(1)));
  phase_ = Phase::kCommitting;
  if (world.rank() != 0) return;
  std::vector<StateFile> files;
  for (const std::string& words : all) files.push_back(file_of(words));
  commit_ = std::async(std::launch::async, [this, files = std::move(files)] {
    const auto begin = Clock::now();
    checkpoint::commit_state(directory_, files, texts_);
    thread_seconds_ += seconds_since(begin);
    if (saved_) saved_();
  });
}

void StateSaver::end() {
  std::string why;
  try {
    if (commit_.valid()) commit_.get();
  } catch (const std::exception& error) {
    why = error.what();
  }
  why = comm::broadcast_text(why, 0, job_.world.communicator());
  if (!why.empty()) fail(why);
  phase_ = Phase::kNone;
  seconds_.written = thread_seconds_;
}

void StateSaver::fail(const std::string& why) {
  phase_ = Phase::kNone;
  if (job_.world.rank() == 0) {
    try {
      checkpoint::discard_state(directory_);
    } catch (const DiskError&) {  // the next start removes it
    }
  }
  throw DiskError(text("saving ", directory_, ": ", why));
}

}  // namespace fpdist::trainer
