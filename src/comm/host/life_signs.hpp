#pragma once
// comm, private: LifeSigns, the thread by which an MPI rank says that it is alive while its own thread is in slow work,
// and hears it of others while that is blocked elsewhere. MPI is called by one thread at a time: process_mpi().mutex.

#include <mpi.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "src/comm/journal.hpp"

namespace fpdist::comm {

/// MPI is the process's own, however many Worlds there are, and so is what guards it.
struct ProcessMpi {
  std::mutex mutex;      ///< held around every MPI call
  bool is_ours = false;  ///< a World has initialised MPI: nobody else is known to call it
};
ProcessMpi& process_mpi();

struct LifeSignOptions {
  MPI_Comm comm = MPI_COMM_NULL;
  int tag = 0;
  std::chrono::milliseconds period, slow_timeout;
};

class LifeSigns {
 public:
  /// `comm` must outlive it.
  LifeSigns(const LifeSignOptions& options, std::shared_ptr<Journal> journal);
  /// Not under the process's lock, which its thread may need to end.
  ~LifeSigns();
  LifeSigns(const LifeSigns&) = delete;
  LifeSigns& operator=(const LifeSigns&) = delete;

  /// Hears what has come. Under the process's lock.
  void listen();

 private:
  /// The last sign to a peer; its memory is MPI's until it is sent.
  struct GivenSign {
    MPI_Request request = MPI_REQUEST_NULL;
    std::array<char, 128> words{};
  };
  static bool is_taken(GivenSign& sent);
  void run();
  void give(const std::string& work);

  const LifeSignOptions options_;
  const std::shared_ptr<Journal> journal_;
  int rank_ = 0;
  std::unique_ptr<std::vector<GivenSign>> sent_;  ///< [ranks]
  std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace fpdist::comm
