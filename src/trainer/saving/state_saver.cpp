#include "src/trainer/saving/state_saver.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <optional>
#include <span>
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

constexpr char kFailed = '!';                        // begins what a rank says of a thread that has thrown
constexpr int64_t kCopiedAtOnce = int64_t{1} << 22;  // elements: what the next step uploads waits for one such run

/// A part of the weights' state, which stays as it is, and where it is copied to.
struct Copy {
  at::Tensor from, to;
};

/// On a stream of its own, where the device has such, and with no thread of the step's pool.
void copy_all(std::span<const Copy> copies, comm::Device& device) {
  const at::NoGradGuard copying;
  const auto there = device.run_ahead([&] {
    for (const auto& [from, to] : copies) {
      if (from.is_cpu()) {
        std::memcpy(to.mutable_data_ptr(), from.const_data_ptr(), from.nbytes());
        continue;
      }
      for (int64_t begin = 0; begin < from.numel(); begin += kCopiedAtOnce) {
        const int64_t size = std::min(kCopiedAtOnce, from.numel() - begin);
        to.narrow(0, begin, size).copy_(from.narrow(0, begin, size));
      }
    }
  });
}

template <typename Future>
bool is_ready(const Future& future) {
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

void StateSaver::wait_for_copy(const std::shared_future<void>& copied) {
  if (is_ready(copied)) return;
  const auto begin = Clock::now();
  const comm::SlowWork slow(job_.world.communicator(), doing());
  copied.wait();
  seconds_.waited += seconds_since(begin);
}

void StateSaver::begin(const std::string& directory, checkpoint::StateTexts texts, SaveHooks hooks) {
  finish();
  const auto begin = Clock::now();
  std::vector<Copy> copies;
  std::vector<StatePiece> pieces = state_pieces(weights_, [&](const at::Tensor& part) {
    const size_t number = copies.size();
    if (number == copies_.size()) copies_.push_back(at::empty_like(part, at::kCPU));
    copies.push_back({.from = part, .to = copies_[number]});
    return copies_[number];
  });
  job_.device->synchronize();
  const std::shared_future<void> copied = std::async(
      std::launch::async, [&device = *job_.device, copies = std::move(copies)] { copy_all(copies, device); });
  weights_.lend([this, copied] { wait_for_copy(copied); });
  start(directory, std::move(texts), std::move(hooks), std::move(pieces), copied);
  seconds_.waited = seconds_since(begin);
}

void StateSaver::save(const std::string& directory, checkpoint::StateTexts texts, SaveHooks hooks) {
  finish();
  seconds_.waited = 0;
  start(directory, std::move(texts), std::move(hooks),
        state_pieces(weights_, [&](const at::Tensor& part) { return job_.device->download(part).contiguous(); }));
  finish();
}

void StateSaver::start(const std::string& directory, checkpoint::StateTexts texts, SaveHooks hooks,
                       std::vector<StatePiece> pieces, std::shared_future<void> copied) {
  directory_ = directory, texts_ = std::move(texts), hooks_ = std::move(hooks);
  shard_ = std::async(std::launch::async,
                      [this, rank = job_.world.rank(), ranks = job_.world.size(), own = std::move(pieces), copied] {
                        if (copied.valid()) copied.get();
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
    if (hooks_.committing) hooks_.committing();
    checkpoint::commit_state(directory_, files, texts_);
    thread_seconds_ += seconds_since(begin);
    if (hooks_.saved) hooks_.saved();
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
