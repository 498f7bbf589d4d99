#include "thread_transport.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "fpdist/core/error.hpp"

namespace fpdist::comm {
namespace {

using State = ThreadJob::Post::State;

/// Nothing travels for an empty message whose header nobody wants.
bool travels(const Message& message) { return message.checked || message.header.bytes > 0; }

}  // namespace

ThreadTransport::Posts ThreadTransport::post_sends(const Exchange& exchange) {
  Posts posts;
  for (const Message& message : exchange.sends) {
    if (!travels(message)) continue;
    posts.push_back(std::make_shared<ThreadJob::Post>(ThreadJob::Post{.message = message}));
    job_->boxes[{exchange.tag, rank_, message.peer}].push_back(posts.back());
  }
  if (!posts.empty()) job_->changed.notify_all();
  return posts;
}

bool ThreadTransport::take_arrived(const Exchange& exchange, std::vector<bool>& arrived,
                                   std::unique_lock<std::mutex>& lock, std::string& error) {
  bool progress = false;
  for (size_t i = 0; i < exchange.receives.size() && error.empty(); ++i) {
    const Message& mine = exchange.receives[i];
    if (arrived[i]) continue;
    auto& box = job_->boxes[{exchange.tag, mine.peer, rank_}];
    if (box.empty()) continue;
    const std::shared_ptr<ThreadJob::Post> post = box.front();
    box.pop_front();
    const Header& theirs = post->message.header;
    if (theirs.bytes != mine.header.bytes || (mine.checked && theirs != mine.header)) {
      error = mismatch_text(exchange, mine.peer, mine.header, theirs);
    } else {
      post->state = State::kTaken;  // its owner waits for us even after an abort: the buffer stays alive
      lock.unlock();
      if (mine.header.bytes > 0) std::memcpy(mine.data, post->message.data, mine.header.bytes);
      lock.lock();
      arrived[i] = true;
    }
    post->state = State::kDone;
    job_->changed.notify_all();
    progress = true;
  }
  return progress;
}

void ThreadTransport::withdraw(const Posts& posts, int tag, std::unique_lock<std::mutex>& lock) {
  for (const auto& post : posts) {
    if (post->state == State::kQueued) {
      auto& box = job_->boxes[{tag, rank_, post->message.peer}];
      box.erase(std::find(box.begin(), box.end(), post));
    }
    job_->changed.wait(lock, [&] { return post->state != State::kTaken; });
  }
}

std::vector<int> ThreadTransport::missing_peers(const Exchange& exchange, const std::vector<bool>& arrived,
                                                const Posts& posts) const {
  std::vector<int> peers;
  for (size_t i = 0; i < arrived.size(); ++i) {
    if (!arrived[i]) peers.push_back(exchange.receives[i].peer);
  }
  for (const auto& post : posts) {
    if (post->state != State::kDone) peers.push_back(post->message.peer);
  }
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  return peers;
}

void ThreadTransport::exchange(Exchange exchange) {
  const auto deadline = std::chrono::steady_clock::now() + job_->options.timeout;
  std::unique_lock lock(job_->mutex);
  if (job_->dead) throw CommError(aborted_text(exchange.place, job_->reason));
  const Posts posts = post_sends(exchange);
  std::vector<bool> arrived;
  for (const Message& message : exchange.receives) arrived.push_back(!travels(message));
  std::string error;
  while (true) {
    const bool progress = take_arrived(exchange, arrived, lock, error);
    if (!error.empty()) break;
    if (std::find(arrived.begin(), arrived.end(), false) == arrived.end() &&
        std::all_of(posts.begin(), posts.end(), [](const auto& post) { return post->state == State::kDone; })) {
      return;
    }
    if (job_->dead) break;
    if (progress) continue;  // the lock was open meanwhile
    if (job_->changed.wait_until(lock, deadline) == std::cv_status::timeout &&
        std::chrono::steady_clock::now() >= deadline && !job_->dead) {
      const std::vector<int> missing = missing_peers(exchange, arrived, posts);
      if (!missing.empty()) error = lost_text(exchange, missing, job_->options);
      break;
    }
  }
  if (!job_->dead) {
    job_->dead = true;
    job_->reason = error;
  }
  job_->changed.notify_all();
  withdraw(posts, exchange.tag, lock);
  throw CommError(error.empty() ? aborted_text(exchange.place, job_->reason) : error);
}

void ThreadTransport::abort(const std::string& reason) noexcept {
  const std::lock_guard lock(job_->mutex);
  if (job_->dead) return;
  job_->dead = true;
  job_->reason = text("world rank ", rank_, ": ", reason);
  job_->changed.notify_all();
}

}  // namespace fpdist::comm
