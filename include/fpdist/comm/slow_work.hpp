#pragma once
// comm: SlowWork, a rank's own work that may take longer than any wait may: reading, writing, starting up, a caller's
// evaluation. What is slow is not dead.

#include <memory>
#include <string>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

/// While it lives, and while the rank is in no wait for others, the rank gives signs of life from a thread of its own,
/// every eighth of CommOptions::timeout (10 s at most): all other ranks count their deadlines anew from each. A rank
/// that is killed, stopped or cut off gives none, and one that goes on without a wait for longer than
/// CommOptions::slow_timeout no more. May stand in another one; on the rank's own thread.
/// Between MPI processes, signs need that fpdist has initialised MPI or that its caller has with MPI_THREAD_MULTIPLE; a
/// caller that makes MPI calls of its own inside SlowWork needs the latter.
class SlowWork {
 public:
  /// `work` for messages: "saving out/final".
  SlowWork(const Communicator& ranks, std::string work);
  ~SlowWork();
  SlowWork(const SlowWork&) = delete;
  SlowWork& operator=(const SlowWork&) = delete;

 private:
  std::shared_ptr<Journal> journal_;
};

}  // namespace fpdist::comm
