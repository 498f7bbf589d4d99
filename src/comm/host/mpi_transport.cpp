#include "src/comm/host/mpi_transport.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/clock.hpp"

namespace fpdist::comm {
namespace {

/// Who was told of an abort leaves the other this long to end the job: the first cause's exit code is the one to see.
constexpr std::chrono::milliseconds kPrecedence(300);
constexpr size_t kNoticeBytes = 1024;  // short enough to be sent eagerly

/// Whether signs of life may be given from another thread, by what MPI was initialised with.
bool may_call_from_threads() {
  int provided = MPI_THREAD_SINGLE;
  MPI_Query_thread(&provided);
  return process_mpi().is_ours ? provided >= MPI_THREAD_SERIALIZED : provided >= MPI_THREAD_MULTIPLE;
}

}  // namespace

/// How a rank waits: first eager (an answer is often microseconds away), then polite (ranks may outnumber cores), then
/// asleep.
class MpiTransport::Backoff {
 public:
  void reset() { idle_ = 0; }
  void pause() {
    ++idle_;
    if (idle_ < 32) return;
    if (idle_ < 2000) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(idle_ < 20000 ? 50 : 1000));
    }
  }
  /// Whether it is time to look at the clock and at the abort tag, which cost as much as many polls.
  bool is_checkpoint() const { return idle_ % 32 == 31 || idle_ > 2000; }

 private:
  int idle_ = 0;
};

/// What MPI may still touch after a failure.
struct MpiTransport::Stranded {
  Flights flights;
  std::string notice;
};

class MpiTransport::Started final : public Work {
 public:
  Started(MpiTransport& transport, std::shared_ptr<MpiFlight> flight)
      : transport_(transport), flight_(std::move(flight)) {}
  void wait() override { transport_.wait_for(*flight_); }
  bool done() override { return flight_->is_done(); }

 private:
  MpiTransport& transport_;
  std::shared_ptr<MpiFlight> flight_;
};

MpiTransport::MpiTransport(int* argc, char*** argv, const CommOptions& options)
    : options_(options), stranded_(std::make_unique<Stranded>()) {
  const std::lock_guard lock(process_mpi().mutex);
  int is_done = 0, is_up = 0;
  MPI_Finalized(&is_done);
  check<CommError>(!is_done,
                   "MPI is already finalized in this process; it cannot start again, so keep one World alive");
  MPI_Initialized(&is_up);
  if (!is_up) {
    int provided = 0;
    check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    finalize_ = process_mpi().is_ours = true;
  }
  MPI_Comm local = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local), "MPI_Comm_split_type");
  MPI_Comm_rank(local, &local_rank_);
  MPI_Comm_size(local, &local_size_);
  first_local_ = rank_;
  check_mpi(MPI_Bcast(&first_local_, 1, MPI_INT, 0, local), "MPI_Bcast");
  MPI_Comm_free(&local);
  if (size_ > 1 && may_call_from_threads())
    signs_ = std::make_unique<LifeSigns>(
        LifeSignOptions{.comm = comm_, .tag = kSignTag, .period = sign_period(), .slow_timeout = options_.slow_timeout},
        journal());
}

MpiTransport::~MpiTransport() {
  signs_.reset();
  const std::lock_guard lock(process_mpi().mutex);
  // What was given up unwaited may be over by now; what is not would never be.
  std::string error;
  for (int i = 0; i < 100 && !dead_ && error.empty() && !flights_.empty(); ++i) progress(error);
  if (!flights_.empty() && !dead_)
    announce(abort_reason(*this, text(flights_.front()->exchange().place, ": never waited for")));
  if (dead_) {  // freeing and finalizing wait for peers that may be gone
    strand();
    (void)stranded_.release();
    return;
  }
  MPI_Comm_free(&comm_);
  if (finalize_) MPI_Finalize();
}

int64_t MpiTransport::piece_bytes() const {
  return std::clamp<int64_t>(options_.max_message_bytes, 1, int64_t{1} << 30);  // MPI counts are int
}

std::string MpiTransport::abort_notice(const Exchange& exchange) {
  int is_there = 0;
  MPI_Status status;
  if (MPI_Iprobe(MPI_ANY_SOURCE, kAbortTag, comm_, &is_there, &status) != MPI_SUCCESS || !is_there) return {};
  std::string reason(kNoticeBytes, '\0');
  int bytes = 0;
  MPI_Get_count(&status, MPI_CHAR, &bytes);
  MPI_Recv(reason.data(), static_cast<int>(reason.size()), MPI_CHAR, status.MPI_SOURCE, kAbortTag, comm_, &status);
  reason.resize(bytes);
  return aborted_text(exchange.place, reason);
}

std::unique_ptr<Work> MpiTransport::start(Exchange exchange) {
  const std::lock_guard lock(process_mpi().mutex);
  if (dead_) throw CommError(aborted_text(exchange.place, reason_));
  const auto flight = std::make_shared<MpiFlight>(std::move(exchange), comm_, piece_bytes(), turns_);
  flights_.push_back(flight);
  flight->post_receives();
  for (size_t i = 0; i < flight->exchange().sends.size(); ++i) {
    delay_message();
    flight->post_send(i);
  }
  std::string error;
  progress(error);  // long messages move on at MPI calls only
  if (!error.empty()) fail(error, true);
  return std::make_unique<Started>(*this, flight);
}

/// Moves every exchange on; returns whether anything has happened. `error` is set when one has failed.
bool MpiTransport::progress(std::string& error) {
  bool is_progress = false;
  for (const auto& flight : flights_) {
    is_progress = flight->test(error) || is_progress;
    if (!error.empty()) return true;
  }
  std::erase_if(flights_, [](const auto& flight) { return flight->is_done(); });
  return is_progress;
}

void MpiTransport::wait_for(const MpiFlight& flight) {
  const auto start = Clock::now();
  const OpenWait waiting(*journal());
  Backoff backoff;
  while (!look_at(flight, start, backoff)) backoff.pause();
}

bool MpiTransport::look_at(const MpiFlight& flight, Clock::time_point start, Backoff& backoff) {
  const std::lock_guard lock(process_mpi().mutex);
  std::string error;
  while (!flight.is_done()) {
    if (dead_) throw CommError(aborted_text(flight.exchange().place, reason_));
    const bool is_progress = progress(error);
    if (!error.empty()) fail(error, true);
    if (is_progress) {
      backoff.reset();
      continue;
    }
    if (!backoff.is_checkpoint()) return false;
    const std::string notice = abort_notice(flight.exchange());
    if (!notice.empty()) fail(notice, false);
    if (signs_) signs_->listen();
    if (Clock::now() >= deadline_of(start, flight.exchange()))
      fail(lost_text(flight.exchange(), flight.missing_peers(), options_), true);
    return false;
  }
  return true;
}

void MpiTransport::fail(const std::string& error, bool tell_others) {
  if (tell_others) announce(error);
  is_told_ = !tell_others;
  dead_ = true;
  reason_ = error;
  strand();
  throw CommError(error);
}

/// MPI has no way to take a posted message back for sure: its memory stays until the process ends.
void MpiTransport::strand() noexcept {
  for (auto& flight : flights_) flight->cancel_receives();
  stranded_->flights.insert(stranded_->flights.end(), flights_.begin(), flights_.end());
  flights_.clear();
}

void MpiTransport::abort(const std::string& reason) noexcept {
  const std::lock_guard lock(process_mpi().mutex);
  if (dead_) return;
  announce(abort_reason(*this, reason));
}

void MpiTransport::announce(const std::string& reason) noexcept {
  dead_ = true;
  reason_ = reason;
  std::string& notice = stranded_->notice;
  notice = reason.substr(0, kNoticeBytes);
  for (int peer = 0; peer < size_; ++peer) {
    MPI_Request request = MPI_REQUEST_NULL;
    if (peer == rank_) continue;
    if (MPI_Isend(notice.data(), static_cast<int>(notice.size()), MPI_CHAR, peer, kAbortTag, comm_, &request) !=
        MPI_SUCCESS) {
      continue;
    }
    int is_sent = 0;  // an eager message is away at once; one that is not is left to itself
    for (int i = 0; i < 100 && !is_sent; ++i) MPI_Test(&request, &is_sent, MPI_STATUS_IGNORE);
    if (!is_sent) MPI_Request_free(&request);
  }
}

void MpiTransport::end_job(int code) noexcept {
  if (is_told_) std::this_thread::sleep_for(kPrecedence);
  const std::lock_guard lock(process_mpi().mutex);
  MPI_Abort(comm_, code);
}

}  // namespace fpdist::comm
