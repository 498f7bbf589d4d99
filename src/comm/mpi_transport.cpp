#include "mpi_transport.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>
#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist::comm {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kAbortTag = 0;           // communicator tags start above it
constexpr size_t kNoticeBytes = 1024;  // short enough to be sent eagerly

std::string text_of(int code) {
  std::array<char, MPI_MAX_ERROR_STRING> message{};
  int length = 0;
  MPI_Error_string(code, message.data(), &length);
  return {message.data(), static_cast<size_t>(length)};
}

void check_mpi(int code, const char* call) { check<CommError>(code == MPI_SUCCESS, call, ": ", text_of(code)); }

// A communicator's headers and data have tags of their own, so that neither is ever taken for the other.
int header_tag(const Exchange& exchange) { return kAbortTag + 1 + 2 * exchange.tag; }
int data_tag(const Exchange& exchange) { return kAbortTag + 2 + 2 * exchange.tag; }

/// First eager, then polite (ranks may outnumber cores), then asleep.
class Backoff {
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
  /// Every so often: time to look at the clock and at the abort tag.
  bool is_checkpoint() const { return idle_ % 32 == 31 || idle_ > 2000; }

 private:
  int idle_ = 0;
};

}  // namespace

struct MpiTransport::Flight {
  struct Part {
    size_t message;
    bool is_receive, is_header;
  };
  Exchange exchange;
  std::vector<Header> arrived;  ///< [receives] their headers; bytes -1 before they come
  std::vector<int64_t> begun;   ///< [receives] bytes whose receiving has begun
  std::vector<MPI_Request> requests;
  std::vector<Part> parts;  ///< [requests]
  std::vector<int> indices;
  std::vector<MPI_Status> statuses;

  /// The new request's place; valid until the next one.
  MPI_Request* add(const Part& part) {
    parts.push_back(part);
    requests.push_back(MPI_REQUEST_NULL);
    return &requests.back();
  }
  bool is_done() const {
    for (size_t i = 0; i < begun.size(); ++i) {
      if (begun[i] < exchange.receives[i].header.bytes) return false;
    }
    return std::all_of(requests.begin(), requests.end(), [](MPI_Request r) { return r == MPI_REQUEST_NULL; });
  }
  std::vector<int> missing_peers() const {
    std::set<int> peers;
    for (size_t i = 0; i < begun.size(); ++i) {
      if (begun[i] < exchange.receives[i].header.bytes) peers.insert(exchange.receives[i].peer);
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      const std::vector<Message>& messages = parts[i].is_receive ? exchange.receives : exchange.sends;
      if (requests[i] != MPI_REQUEST_NULL) peers.insert(messages[parts[i].message].peer);
    }
    return {peers.begin(), peers.end()};
  }
};

/// What MPI may still touch after a failure.
struct MpiTransport::Stranded {
  std::vector<std::unique_ptr<Flight>> flights;
  std::string notice;
};

MpiTransport::MpiTransport(int* argc, char*** argv, const CommOptions& options)
    : options_(options), stranded_(std::make_unique<Stranded>()) {
  int is_done = 0, is_up = 0;
  MPI_Finalized(&is_done);
  check<CommError>(!is_done,
                   "MPI is already finalized in this process; it cannot start again, so keep one World alive");
  MPI_Initialized(&is_up);
  if (!is_up) {
    int provided = 0;
    check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    finalize_ = true;
  }
  MPI_Comm local = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local), "MPI_Comm_split_type");
  MPI_Comm_rank(local, &local_rank_);
  MPI_Comm_size(local, &local_size_);
  MPI_Comm_free(&local);
}

MpiTransport::~MpiTransport() {
  if (dead_) {  // freeing and finalizing wait for peers that may be gone
    // MPI has no way to take a posted message back for sure: its buffers stay until the process ends.
    (void)stranded_.release();
    return;
  }
  MPI_Comm_free(&comm_);
  if (finalize_) MPI_Finalize();
}

int64_t MpiTransport::piece_bytes() const {
  return std::clamp<int64_t>(options_.max_message_bytes, 1, int64_t{1} << 30);  // MPI counts are int
}

void MpiTransport::post(Flight& flight) {
  const Exchange& exchange = flight.exchange;
  flight.arrived.resize(exchange.receives.size(), Header{.bytes = -1});
  flight.begun.resize(exchange.receives.size(), 0);
  for (size_t i = 0; i < exchange.receives.size(); ++i) {
    if (!exchange.receives[i].checked) continue;
    MPI_Request* request = flight.add({i, true, true});
    check_mpi(MPI_Irecv(&flight.arrived[i], sizeof(Header), MPI_BYTE, exchange.receives[i].peer, header_tag(exchange),
                        comm_, request),
              "MPI_Irecv");
  }
  for (size_t i = 0; i < exchange.sends.size(); ++i) {
    const Message& message = exchange.sends[i];
    if (message.checked) {
      MPI_Request* request = flight.add({i, false, true});
      check_mpi(
          MPI_Issend(&message.header, sizeof(Header), MPI_BYTE, message.peer, header_tag(exchange), comm_, request),
          "MPI_Issend");
    }
    for (int64_t begin = 0; begin < message.header.bytes; begin += piece_bytes()) {
      MPI_Request* request = flight.add({i, false, false});
      const auto bytes = static_cast<int>(std::min(piece_bytes(), message.header.bytes - begin));
      check_mpi(MPI_Issend(message.data + begin, bytes, MPI_BYTE, message.peer, data_tag(exchange), comm_, request),
                "MPI_Issend");
    }
  }
}

/// A receive is begun only when its message is there and has the right size: Open MPI's single-copy path writes past a
/// receive buffer that is too small before it reports the truncation.
bool MpiTransport::begin_receives(Flight& flight, std::string& error) {
  bool progress = false;
  for (size_t i = 0; i < flight.begun.size(); ++i) {
    const Message& message = flight.exchange.receives[i];
    if (message.checked && flight.arrived[i] != message.header) continue;  // first hear what it is
    while (flight.begun[i] < message.header.bytes) {
      MPI_Message found = MPI_MESSAGE_NULL;
      MPI_Status status;
      int is_there = 0, bytes = 0;
      check_mpi(MPI_Improbe(message.peer, data_tag(flight.exchange), comm_, &is_there, &found, &status), "MPI_Improbe");
      if (!is_there) break;
      MPI_Get_count(&status, MPI_BYTE, &bytes);
      const int64_t expected = std::min(piece_bytes(), message.header.bytes - flight.begun[i]);
      if (bytes != expected) {
        error = text(flight.exchange.place, ": world rank ", message.peer, " sent ", bytes, " bytes, ", expected,
                     " were expected; all ranks must make the same calls with matching counts");
        return true;
      }
      MPI_Request* request = flight.add({i, true, false});
      check_mpi(MPI_Imrecv(message.data + flight.begun[i], bytes, MPI_BYTE, &found, request), "MPI_Imrecv");
      flight.begun[i] += expected;
      progress = true;
    }
  }
  return progress;
}

/// Completes what can be; returns whether anything was.
bool MpiTransport::test(Flight& flight, std::string& error) {
  int done = 0;
  flight.indices.resize(flight.requests.size());
  flight.statuses.resize(flight.requests.size());
  const int code = MPI_Testsome(static_cast<int>(flight.requests.size()), flight.requests.data(), &done,
                                flight.indices.data(), flight.statuses.data());
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) check_mpi(code, "MPI_Testsome");
  if (done == MPI_UNDEFINED) done = 0;
  for (int i = 0; i < done; ++i) {
    const Flight::Part& part = flight.parts[flight.indices[i]];
    if (code == MPI_ERR_IN_STATUS && flight.statuses[i].MPI_ERROR != MPI_SUCCESS) {
      error = text(flight.exchange.place, ": ", text_of(flight.statuses[i].MPI_ERROR));
    } else if (part.is_receive && part.is_header) {
      const Message& message = flight.exchange.receives[part.message];
      const Header& theirs = flight.arrived[part.message];
      if (theirs != message.header) error = mismatch_text(flight.exchange, message.peer, message.header, theirs);
    }
    if (!error.empty()) return true;
  }
  return begin_receives(flight, error) || done > 0;
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

void MpiTransport::exchange(Exchange exchange) {
  if (dead_) throw CommError(aborted_text(exchange.place, reason_));
  auto flight = std::make_unique<Flight>();
  flight->exchange = std::move(exchange);
  post(*flight);
  const auto deadline = Clock::now() + options_.timeout;
  Backoff backoff;
  std::string error;
  while (!flight->is_done()) {
    if (test(*flight, error)) {
      if (!error.empty()) fail(std::move(flight), error, true);
      backoff.reset();
      continue;
    }
    backoff.pause();
    if (!backoff.is_checkpoint()) continue;
    error = abort_notice(flight->exchange);
    if (!error.empty()) fail(std::move(flight), error, false);
    if (Clock::now() < deadline) continue;
    error = lost_text(flight->exchange, flight->missing_peers(), options_);
    fail(std::move(flight), error, true);
  }
}

void MpiTransport::fail(std::unique_ptr<Flight> flight, const std::string& error, bool tell_others) {
  for (size_t i = 0; i < flight->requests.size(); ++i) {
    if (flight->requests[i] != MPI_REQUEST_NULL && flight->parts[i].is_receive) MPI_Cancel(&flight->requests[i]);
  }
  stranded_->flights.push_back(std::move(flight));
  if (tell_others) abort(error);
  dead_ = true;
  reason_ = error;
  throw CommError(error);
}

void MpiTransport::abort(const std::string& reason) noexcept {
  if (std::exchange(dead_, true)) return;
  reason_ = text("world rank ", rank_, ": ", reason);
  std::string& notice = stranded_->notice;
  notice = reason_.substr(0, kNoticeBytes);
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

void MpiTransport::end_job(int code) noexcept { MPI_Abort(comm_, code); }

}  // namespace fpdist::comm
