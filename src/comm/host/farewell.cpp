#include "src/comm/host/farewell.hpp"

#include <mpi.h>

#include <thread>

namespace fpdist::comm {

bool all_have_come(std::chrono::milliseconds patience) {
  using Clock = std::chrono::steady_clock;
  int is_up = 0, is_done = 0;
  MPI_Initialized(&is_up);
  MPI_Finalized(&is_done);
  if (!is_up || is_done) return false;
  // Of MPI_COMM_WORLD, which nothing else of ours talks on: what ranks have begun elsewhere cannot meet it.
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(MPI_COMM_WORLD, &request) != MPI_SUCCESS) return false;
  int has_come = 0;
  for (const auto end = Clock::now() + patience; !has_come && Clock::now() < end;) {
    if (MPI_Test(&request, &has_come, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
    if (!has_come) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return has_come != 0;
}

}  // namespace fpdist::comm
