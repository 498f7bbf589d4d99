#pragma once
// comm: World, the ranks that a job runs on. Either MPI processes or threads of this process (tests, sanitizers).

#include <functional>
#include <memory>
#include <string>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

class World {
 public:
  /// Joins MPI: initialises it if nobody has (and then finalizes it in the destructor), duplicates MPI_COMM_WORLD.
  /// Collective over the job. A program started without mpirun is a world of one rank.
  /// MPI_Finalize waits for every rank, so the destructor leaves it out after abort() and while an exception is
  /// unwinding (the peers are told instead). A program therefore keeps its World outside the try block whose catch
  /// calls abort().
  World(int* argc, char*** argv, CommOptions options = {});
  /// Wraps an existing communicator (thread ranks); `local_size` ranks share this host. `journal`: what the
  /// communicator writes its calls to; null for one that keeps none.
  World(std::unique_ptr<Communicator> communicator, int local_size, std::shared_ptr<Journal> journal = nullptr);
  ~World();
  World(World&&) noexcept;
  World& operator=(World&&) noexcept;

  int rank() const { return communicator().rank(); }
  int size() const { return communicator().size(); }
  int local_rank() const;  ///< rank among the ranks of this host
  int local_size() const;
  int first_local() const;  ///< rank in the world of this host's local rank 0
  Communicator& communicator() const;

  /// Not collective. Says what the rank is doing, e.g. "step 3, op 17 of 40: Receive pack 2"; every error text and
  /// every entry of the flight record says it.
  void set_position(std::string position);
  /// What the rank was doing lately. Not collective; from any thread, also after an abort. JSON object: "rank",
  /// "world_size", "position" and "calls", the last 64 on any axis, oldest first: {"sequence", "collective", "axis",
  /// "dtype", "bytes", "peers" (ranks of the job), "position", "seconds" since the World was made, "state": "started" |
  /// "done" | "failed"}. "bytes" are those of the call's tensor, in a group of all its tensors.
  std::string flight_record() const;

  /// Not collective: ends the whole job now with `code` after telling the peers; returns only for thread ranks.
  /// A rank that was told of another's abort waits a moment first, so that the code of the first cause is the job's.
  void abort(int code, const std::string& reason) noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Runs `body(world)` on `ranks` threads of this process, each with its own World over an in-process communicator.
/// Rethrows the first rank's exception after aborting the others; returns when all have ended.
void run_threads(int ranks, const std::function<void(World&)>& body, CommOptions options = {});

}  // namespace fpdist::comm
