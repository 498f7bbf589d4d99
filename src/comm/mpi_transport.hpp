#pragma once
// comm, private: ranks as MPI processes, tensors in host memory. Only point-to-point calls that return at once, polled
// with MPI_Testsome against a deadline: no MPI call here can hang on a peer that is gone.

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "transport.hpp"

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
  void exchange(Exchange exchange) override;
  void abort(const std::string& reason) noexcept override;

  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  /// MPI_Abort: ends every process of the job with `code`.
  void end_job(int code) noexcept;

 private:
  struct Flight;  ///< one exchange whose messages are posted
  struct Stranded;
  void post(Flight& flight);
  bool begin_receives(Flight& flight, std::string& error);
  bool test(Flight& flight, std::string& error);
  int64_t piece_bytes() const;
  std::string abort_notice(const Exchange& exchange);
  [[noreturn]] void fail(std::unique_ptr<Flight> flight, const std::string& error, bool tell_others);

  CommOptions options_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  bool finalize_ = false, dead_ = false;
  std::string reason_;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::unique_ptr<Stranded> stranded_;
};

}  // namespace fpdist::comm
