#pragma once
// comm, private: MpiFlight, one exchange between MPI processes whose messages are posted.

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "src/comm/host/transport.hpp"

namespace fpdist::comm {

// Communicator tags start above these.
constexpr int kAbortTag = 0, kSignTag = 1;

std::string mpi_error_text(int code);
/// Throws CommError naming `call`.
void check_mpi(int code, const char* call);

class MpiFlight {
 public:
  /// Nothing is posted yet. Receives take their turns in `turns`; messages longer than `piece_bytes` travel in pieces.
  MpiFlight(Exchange exchange, MPI_Comm comm, int64_t piece_bytes, TurnTable& turns);
  MpiFlight(const MpiFlight&) = delete;
  MpiFlight& operator=(const MpiFlight&) = delete;

  void post_receives();
  void post_send(size_t send);
  /// Completes what can be; returns whether anything was. `error` is set when the exchange has failed.
  bool test(std::string& error);
  bool is_done() const;
  std::vector<int> missing_peers() const;
  void cancel_receives() noexcept;
  const Exchange& exchange() const { return exchange_; }

 private:
  struct Posted {  ///< what a request is about
    size_t message;
    bool is_receive, is_header;
  };
  struct Arrival {                      ///< how far a receive is
    MessageHeader header{.bytes = -1};  ///< theirs; bytes -1 before it comes
    int64_t begun = 0;                  ///< bytes whose receiving has begun
    Turns* turns = nullptr;
    int64_t turn = 0;
  };
  MPI_Request* add(const Posted& posted);
  bool begin_receives(std::string& error);
  bool begin_piece(size_t receive, std::string& error);

  Exchange exchange_;
  MPI_Comm comm_;
  int64_t piece_bytes_;
  std::vector<Arrival> arrivals_;  ///< [receives]
  std::vector<MPI_Request> requests_;
  std::vector<Posted> posted_;  ///< [requests]
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
};

}  // namespace fpdist::comm
