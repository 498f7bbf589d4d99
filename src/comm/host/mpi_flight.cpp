#include "src/comm/host/mpi_flight.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::comm {
namespace {

// A communicator's headers and data have tags of their own, so that neither is ever taken for the other.
int header_tag(const Exchange& exchange) { return kSignTag + 1 + 2 * exchange.tag; }
int data_tag(const Exchange& exchange) { return kSignTag + 2 + 2 * exchange.tag; }

}  // namespace

std::string mpi_error_text(int code) {
  std::array<char, MPI_MAX_ERROR_STRING> message{};
  int length = 0;
  MPI_Error_string(code, message.data(), &length);
  return {message.data(), index(length)};
}

void check_mpi(int code, const char* call) { check<CommError>(code == MPI_SUCCESS, call, ": ", mpi_error_text(code)); }

MpiFlight::MpiFlight(Exchange exchange, MPI_Comm comm, int64_t piece_bytes, TurnTable& turns)
    : exchange_(std::move(exchange)), comm_(comm), piece_bytes_(piece_bytes), arrivals_(exchange_.receives.size()) {
  for (size_t i = 0; i < arrivals_.size(); ++i) {
    if (exchange_.receives[i].header.bytes == 0) continue;  // the header is all
    arrivals_[i].turns = &turns[{exchange_.tag, exchange_.receives[i].peer}];
    arrivals_[i].turn = arrivals_[i].turns->given++;
  }
}

/// Place of a new MPI request, valid until the next one.
MPI_Request* MpiFlight::add(const Posted& posted) {
  posted_.push_back(posted);
  requests_.push_back(MPI_REQUEST_NULL);
  return &requests_.back();
}

void MpiFlight::post_receives() {
  for (size_t i = 0; i < arrivals_.size(); ++i) {
    if (!exchange_.receives[i].checked) continue;
    MPI_Request* request = add({i, true, true});
    check_mpi(MPI_Irecv(&arrivals_[i].header, sizeof(MessageHeader), MPI_BYTE, exchange_.receives[i].peer,
                        header_tag(exchange_), comm_, request),
              "MPI_Irecv");
  }
}

void MpiFlight::post_send(size_t send) {
  const Message& message = exchange_.sends[send];
  if (message.checked) {
    MPI_Request* request = add({send, false, true});
    check_mpi(MPI_Issend(&message.header, sizeof(MessageHeader), MPI_BYTE, message.peer, header_tag(exchange_), comm_,
                         request),
              "MPI_Issend");
  }
  for (int64_t begin = 0; begin < message.header.bytes; begin += piece_bytes_) {
    MPI_Request* request = add({send, false, false});
    const auto bytes = static_cast<int>(std::min(piece_bytes_, message.header.bytes - begin));
    check_mpi(MPI_Issend(message.data + begin, bytes, MPI_BYTE, message.peer, data_tag(exchange_), comm_, request),
              "MPI_Issend");
  }
}

/// A receive is begun only when its message is there and has the right size: Open MPI's single-copy path writes past a
/// receive buffer that is too small before it reports the truncation.
bool MpiFlight::begin_piece(size_t receive, std::string& error) {
  const Message& message = exchange_.receives[receive];
  Arrival& arrival = arrivals_[receive];
  MPI_Message found = MPI_MESSAGE_NULL;
  MPI_Status status;
  int is_there = 0, bytes = 0;
  check_mpi(MPI_Improbe(message.peer, data_tag(exchange_), comm_, &is_there, &found, &status), "MPI_Improbe");
  if (!is_there) return false;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  const int64_t expected = std::min(piece_bytes_, message.header.bytes - arrival.begun);
  if (bytes != expected) {
    error = text(exchange_.place, ": world rank ", message.peer, " sent ", bytes, " bytes, ", expected,
                 " were expected; all ranks must make the same calls with matching counts");
    return true;
  }
  MPI_Request* request = add({receive, true, false});
  check_mpi(MPI_Imrecv(message.data + arrival.begun, bytes, MPI_BYTE, &found, request), "MPI_Imrecv");
  arrival.begun += expected;
  if (arrival.begun == message.header.bytes) ++arrival.turns->served;
  return true;
}

bool MpiFlight::begin_receives(std::string& error) {
  bool progress = false;
  for (size_t i = 0; i < arrivals_.size() && error.empty(); ++i) {
    const Message& message = exchange_.receives[i];
    const Arrival& arrival = arrivals_[i];
    if (message.checked && arrival.header != message.header) continue;  // first hear what it is
    while (arrival.begun < message.header.bytes && arrival.turns->served == arrival.turn && error.empty()) {
      if (!begin_piece(i, error)) break;
      progress = true;
    }
  }
  return progress;
}

bool MpiFlight::test(std::string& error) {
  int done = 0;
  indices_.resize(requests_.size());
  statuses_.resize(requests_.size());
  const int code =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &done, indices_.data(), statuses_.data());
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) check_mpi(code, "MPI_Testsome");
  if (done == MPI_UNDEFINED) done = 0;
  for (int i = 0; i < done; ++i) {
    const Posted& posted = posted_[indices_[i]];
    if (code == MPI_ERR_IN_STATUS && statuses_[i].MPI_ERROR != MPI_SUCCESS) {
      error = text(exchange_.place, ": ", mpi_error_text(statuses_[i].MPI_ERROR));
    } else if (posted.is_receive && posted.is_header) {
      const Message& message = exchange_.receives[posted.message];
      const MessageHeader& theirs = arrivals_[posted.message].header;
      if (theirs != message.header) error = mismatch_text(exchange_, message.peer, message.header, theirs);
    }
    if (!error.empty()) return true;
  }
  return begin_receives(error) || done > 0;
}

bool MpiFlight::is_done() const {
  for (size_t i = 0; i < arrivals_.size(); ++i) {
    if (arrivals_[i].begun < exchange_.receives[i].header.bytes) return false;
  }
  return std::all_of(requests_.begin(), requests_.end(), [](MPI_Request r) { return r == MPI_REQUEST_NULL; });
}

std::vector<int> MpiFlight::missing_peers() const {
  std::set<int> peers;
  for (size_t i = 0; i < arrivals_.size(); ++i) {
    if (arrivals_[i].begun < exchange_.receives[i].header.bytes) peers.insert(exchange_.receives[i].peer);
  }
  for (size_t i = 0; i < requests_.size(); ++i) {
    const std::vector<Message>& messages = posted_[i].is_receive ? exchange_.receives : exchange_.sends;
    if (requests_[i] != MPI_REQUEST_NULL) peers.insert(messages[posted_[i].message].peer);
  }
  return {peers.begin(), peers.end()};
}

void MpiFlight::cancel_receives() noexcept {
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL && posted_[i].is_receive) MPI_Cancel(&requests_[i]);
  }
}

}  // namespace fpdist::comm
