#pragma once
// comm, private: which MPI this process is linked to.

#include <string>

namespace fpdist::comm {

/// "Open MPI v4.1.4, ..."; from any thread, MPI begun or not.
std::string mpi_library();

}  // namespace fpdist::comm
