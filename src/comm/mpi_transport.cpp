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

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> message{};
  int length = 0;
  MPI_Error_string(code, message.data(), &length);
  throw CommError(text(call, ": ", std::string_view(message.data(), length)));
}

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
    int64_t bytes;
  };
  Exchange exchange;
  std::vector<Header> arrived;  ///< [receives]
  std::vector<MPI_Request> requests;
  std::vector<Part> parts;  ///< [requests]
  std::vector<int> indices;
  std::vector<MPI_Status> statuses;
};

MpiTransport::MpiTransport(int* argc, char*** argv, const CommOptions& options) : options_(options) {
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
  if (dead_) return;  // freeing and finalizing wait for peers that may be gone
  MPI_Comm_free(&comm_);
  if (finalize_) MPI_Finalize();
}

void MpiTransport::post_message(Flight& flight, size_t index, bool is_receive) {
  const Message& message = is_receive ? flight.exchange.receives[index] : flight.exchange.sends[index];
  const int tag = kAbortTag + 1 + flight.exchange.tag;
  const auto add = [&](void* data, int64_t bytes, bool is_header) {
    MPI_Request request = MPI_REQUEST_NULL;
    const int count = static_cast<int>(bytes);
    if (is_receive) {
      check_mpi(MPI_Irecv(data, count, MPI_BYTE, message.peer, tag, comm_, &request), "MPI_Irecv");
    } else {
      check_mpi(MPI_Issend(data, count, MPI_BYTE, message.peer, tag, comm_, &request), "MPI_Issend");
    }
    flight.requests.push_back(request);
    flight.parts.push_back({index, is_receive, is_header, bytes});
  };
  if (message.checked) {
    Header* header = is_receive ? &flight.arrived[index] : &flight.exchange.sends[index].header;
    add(header, sizeof(Header), true);
  }
  const int64_t piece = std::clamp<int64_t>(options_.max_message_bytes, 1, int64_t{1} << 30);
  for (int64_t begin = 0; begin < message.header.bytes; begin += piece) {
    add(message.data + begin, std::min(piece, message.header.bytes - begin), false);
  }
}

void MpiTransport::post(Flight& flight) {
  flight.arrived.resize(flight.exchange.receives.size());
  for (size_t i = 0; i < flight.exchange.receives.size(); ++i) post_message(flight, i, true);
  for (size_t i = 0; i < flight.exchange.sends.size(); ++i) post_message(flight, i, false);
  flight.indices.resize(flight.requests.size());
  flight.statuses.resize(flight.requests.size());
}

void MpiTransport::finish(const Flight& flight, int request, const MPI_Status& status, std::string& error) const {
  const Flight::Part& part = flight.parts[request];
  const Exchange& exchange = flight.exchange;
  const Message& message = part.is_receive ? exchange.receives[part.message] : exchange.sends[part.message];
  if (part.is_receive && part.is_header) {
    const Header& theirs = flight.arrived[part.message];
    if (theirs != message.header) error = mismatch_text(exchange, message.peer, message.header, theirs);
    return;
  }
  if (!part.is_receive) return;
  int bytes = 0;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  if (bytes != part.bytes) {
    error = text(exchange.place, ": world rank ", message.peer, " sent ", bytes, " bytes, ", part.bytes,
                 " were expected; all ranks must make the same calls with matching counts");
  }
}

bool MpiTransport::test(Flight& flight, std::string& error) {
  int done = 0;
  const int code = MPI_Testsome(static_cast<int>(flight.requests.size()), flight.requests.data(), &done,
                                flight.indices.data(), flight.statuses.data());
  if (done == MPI_UNDEFINED) return false;
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) check_mpi(code, "MPI_Testsome");
  // Headers first: when a message does not fit because its sender is elsewhere, the header says where.
  for (const bool headers : {true, false}) {
    for (int i = 0; i < done && error.empty(); ++i) {
      const int request = flight.indices[i];
      if (flight.parts[request].is_header != headers) continue;
      const bool failed = code == MPI_ERR_IN_STATUS && flight.statuses[i].MPI_ERROR != MPI_SUCCESS;
      if (!failed) {
        finish(flight, request, flight.statuses[i], error);
        continue;
      }
      std::array<char, MPI_MAX_ERROR_STRING> message{};
      int length = 0;
      MPI_Error_string(flight.statuses[i].MPI_ERROR, message.data(), &length);
      error = text(flight.exchange.place, ": ", std::string_view(message.data(), length),
                   "; all ranks must make the same calls with matching counts");
    }
  }
  return done > 0;
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
  const auto is_done = [](MPI_Request request) { return request == MPI_REQUEST_NULL; };
  Backoff backoff;
  std::string error;
  while (!std::all_of(flight->requests.begin(), flight->requests.end(), is_done)) {
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
    std::set<int> missing;
    for (size_t i = 0; i < flight->requests.size(); ++i) {
      if (is_done(flight->requests[i])) continue;
      const auto& part = flight->parts[i];
      const Exchange& posted = flight->exchange;
      missing.insert(part.is_receive ? posted.receives[part.message].peer : posted.sends[part.message].peer);
    }
    error = lost_text(flight->exchange, {missing.begin(), missing.end()}, options_);
    fail(std::move(flight), error, true);
  }
}

void MpiTransport::fail(std::unique_ptr<Flight> flight, const std::string& error, bool tell_others) {
  for (size_t i = 0; i < flight->requests.size(); ++i) {
    if (flight->requests[i] != MPI_REQUEST_NULL && flight->parts[i].is_receive) MPI_Cancel(&flight->requests[i]);
  }
  stranded_.push_back(std::move(flight));
  if (tell_others) abort(error);
  dead_ = true;
  reason_ = error;
  throw CommError(error);
}

void MpiTransport::abort(const std::string& reason) noexcept {
  if (std::exchange(dead_, true)) return;
  reason_ = text("world rank ", rank_, ": ", reason);
  notice_ = reason_.substr(0, kNoticeBytes);
  for (int peer = 0; peer < size_; ++peer) {
    MPI_Request request = MPI_REQUEST_NULL;
    if (peer == rank_) continue;
    if (MPI_Isend(notice_.data(), static_cast<int>(notice_.size()), MPI_CHAR, peer, kAbortTag, comm_, &request) !=
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
