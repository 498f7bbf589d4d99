#pragma once
// comm, private: ranks as MPI processes, tensors in host memory. Only point-to-point calls that return at once, polled
// with MPI_Testsome against a deadline: no MPI call here can hang on a peer that is gone. Public functions take the
// process's lock on MPI (life_signs.hpp), private ones are called under it.

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/comm/host/life_signs.hpp"
#include "src/comm/host/mpi_flight.hpp"
#include "src/comm/host/transport.hpp"

namespace fpdist::comm {

class MpiTransport final : public Transport {
 public:
  /// Collective over MPI_COMM_WORLD. Initialises MPI when nobody has.
  MpiTransport(int* argc, char*** argv, const CommOptions& options);
  /// Frees the communicator and finalizes what the constructor initialised, unless the job is dead.
  ~MpiTransport() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const CommOptions& options() const override { return options_; }
  std::unique_ptr<Work> start(Exchange exchange) override;
  void abort(const std::string& reason) noexcept override;

  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  int first_local() const { return first_local_; }
  /// MPI_Abort: ends every process of the job with `code`.
  void end_job(int code) noexcept;

 private:
  class Started;
  class Backoff;
  using Flights = std::vector<std::shared_ptr<MpiFlight>>;
  struct Stranded;
  void wait_for(const MpiFlight& flight);
  /// Whether it is over, after one look; throws when it has failed. `idle`: looks since something happened.
  bool look_at(const MpiFlight& flight, Clock::time_point start, Backoff& backoff);
  bool progress(std::string& error);
  int64_t piece_bytes() const;
  std::string abort_notice(const Exchange& exchange);
  [[noreturn]] void fail(const std::string& error, bool tell_others);
  void announce(const std::string& reason) noexcept;
  void strand() noexcept;

  CommOptions options_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  bool finalize_ = false, dead_ = false;
  bool is_told_ = false;  ///< dead because another rank said so
  std::string reason_;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1, first_local_ = 0;
  TurnTable turns_;
  Flights flights_;  ///< started and not done, in that order
  std::unique_ptr<Stranded> stranded_;
  std::unique_ptr<LifeSigns> signs_;  ///< null: alone, or MPI is not ours to call from another thread
};

}  // namespace fpdist::comm
