#include "src/comm/host/thread_transport.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/clock.hpp"

namespace fpdist::comm {
namespace {

using Fate = ThreadJob::Post::Fate;

/// Whether anything is sent for `message`: an empty one whose header nobody wants stays at home.
bool travels(const Message& message) { return message.checked || message.header.bytes > 0; }

}  // namespace

struct ThreadTransport::Flight {
  struct Incoming {
    bool is_here = false;
    Turns* turns = nullptr;
    int64_t turn = 0;
  };
  Exchange exchange;
  std::vector<std::shared_ptr<ThreadJob::Post>> posts;
  std::vector<Incoming> arrivals;  ///< [receives]

  /// Whether nothing is missing. Called under the job's lock, as all that look at posts are.
  bool is_done() const {
    return std::all_of(arrivals.begin(), arrivals.end(), [](const Incoming& arrival) { return arrival.is_here; }) &&
           std::all_of(posts.begin(), posts.end(), [](const auto& post) { return post->fate == Fate::kDone; });
  }
  std::vector<int> missing_peers() const {
    std::set<int> peers;
    for (size_t i = 0; i < arrivals.size(); ++i) {
      if (!arrivals[i].is_here) peers.insert(exchange.receives[i].peer);
    }
    for (const auto& post : posts) {
      if (post->fate != Fate::kDone) peers.insert(post->message.peer);
    }
    return {peers.begin(), peers.end()};
  }
};

class ThreadTransport::Started final : public Work {
 public:
  Started(ThreadTransport& transport, std::shared_ptr<Flight> flight)
      : transport_(transport), flight_(std::move(flight)) {}
  void wait() override { transport_.wait_for(*flight_); }
  bool done() override {
    const Lock lock(transport_.job_->mutex);
    return flight_->is_done();
  }

 private:
  ThreadTransport& transport_;
  std::shared_ptr<Flight> flight_;
};

ThreadTransport::ThreadTransport(std::shared_ptr<ThreadJob> job, int rank) : job_(std::move(job)), rank_(rank) {
  const std::lock_guard lock(job_->mutex);
  job_->journals[index(rank_)] = journal();
}

ThreadTransport::~ThreadTransport() {
  Lock lock(job_->mutex);
  std::erase_if(flights_, [](const auto& flight) { return flight->is_done(); });
  if (!flights_.empty()) die(text(flights_.front()->exchange.place, ": never waited for"), lock);
}

void ThreadTransport::post(Flight& flight) {
  for (const Message& message : flight.exchange.receives) {
    Flight::Incoming arrival{.is_here = !travels(message)};
    if (travels(message)) {
      arrival.turns = &turns_[{flight.exchange.tag, message.peer}];
      arrival.turn = arrival.turns->given++;
    }
    flight.arrivals.push_back(arrival);
  }
  for (const Message& message : flight.exchange.sends) {
    if (!travels(message)) continue;
    delay_message();
    const std::lock_guard lock(job_->mutex);
    flight.posts.push_back(std::make_shared<ThreadJob::Post>(ThreadJob::Post{.message = message}));
    job_->boxes[{flight.exchange.tag, rank_, message.peer}].push_back(flight.posts.back());
    job_->changed.notify_all();
  }
}

std::unique_ptr<Work> ThreadTransport::start(Exchange exchange) {
  {
    const std::lock_guard lock(job_->mutex);
    if (job_->dead) throw CommError(aborted_text(exchange.place, job_->reason));
  }
  const auto flight = std::make_shared<Flight>();
  flight->exchange = std::move(exchange);
  flights_.push_back(flight);
  post(*flight);
  return std::make_unique<Started>(*this, flight);
}

bool ThreadTransport::take_arrived(Flight& flight, Lock& lock, std::string& error) {
  bool is_progress = false;
  for (size_t i = 0; i < flight.arrivals.size() && error.empty(); ++i) {
    const Message& mine = flight.exchange.receives[i];
    Flight::Incoming& arrival = flight.arrivals[i];
    if (arrival.is_here || arrival.turns->served != arrival.turn) continue;
    auto& box = job_->boxes[{flight.exchange.tag, mine.peer, rank_}];
    if (box.empty()) continue;
    const std::shared_ptr<ThreadJob::Post> post = box.front();
    box.pop_front();
    const MessageHeader& theirs = post->message.header;
    if (theirs.bytes != mine.header.bytes || (mine.checked && theirs != mine.header)) {
      error = mismatch_text(flight.exchange, mine.peer, mine.header, theirs);
    } else {
      post->fate = Fate::kTaken;  // its owner waits for us even after an abort: the buffer stays alive
      lock.unlock();
      if (mine.header.bytes > 0) std::memcpy(mine.data, post->message.data, mine.header.bytes);
      lock.lock();
      arrival.is_here = true;
      ++arrival.turns->served;
    }
    post->fate = Fate::kDone;
    job_->changed.notify_all();
    is_progress = true;
  }
  return is_progress;
}

/// Moves every exchange on; returns whether anything has happened, in which case the lock was open meanwhile.
bool ThreadTransport::progress(Lock& lock, std::string& error) {
  bool is_progress = false;
  for (const auto& flight : flights_) {
    is_progress = take_arrived(*flight, lock, error) || is_progress;
    if (!error.empty()) return true;
  }
  std::erase_if(flights_, [](const auto& flight) { return flight->is_done(); });
  return is_progress;
}

/// Hears who is busy. Called under the job's lock.
void ThreadTransport::listen() {
  for (int rank = 0; rank < size(); ++rank) {
    const std::shared_ptr<Journal>& other = job_->journals[index(rank)];
    if (rank == rank_ || !other) continue;
    if (auto work = other->slow_work(options().slow_timeout)) journal()->hear(rank, std::move(*work));
  }
}

void ThreadTransport::wait_for(const Flight& flight) {
  const auto start = Clock::now();
  const OpenWait waiting(*journal());
  Lock lock(job_->mutex);
  std::string error;
  while (true) {
    const bool is_progress = progress(lock, error);
    if (!error.empty()) break;
    if (flight.is_done()) return;
    if (job_->dead) break;
    if (is_progress) continue;
    listen();
    const auto deadline = deadline_of(start, flight.exchange);
    job_->changed.wait_until(lock, std::min(deadline, Clock::now() + sign_period()));
    if (Clock::now() < deadline || job_->dead) continue;
    const std::vector<int> missing = flight.missing_peers();
    if (missing.empty()) return;
    error = lost_text(flight.exchange, missing, job_->options);
    break;
  }
  die(error, lock);
  throw CommError(error.empty() ? aborted_text(flight.exchange.place, job_->reason) : error);
}

/// Ends the job, unless it has ended, and takes back what this rank has posted: its buffers are the caller's again.
void ThreadTransport::die(const std::string& reason, Lock& lock) {
  if (!job_->dead) {
    job_->dead = true;
    job_->reason = reason;
  }
  job_->changed.notify_all();
  for (const auto& flight : flights_) {
    for (const auto& post : flight->posts) {
      if (post->fate == Fate::kQueued) {
        auto& box = job_->boxes[{flight->exchange.tag, rank_, post->message.peer}];
        box.erase(std::find(box.begin(), box.end(), post));
      }
      job_->changed.wait(lock, [&] { return post->fate != Fate::kTaken; });
    }
  }
  flights_.clear();
}

void ThreadTransport::abort(const std::string& reason) noexcept {
  Lock lock(job_->mutex);
  die(abort_reason(*this, reason), lock);
}

}  // namespace fpdist::comm
