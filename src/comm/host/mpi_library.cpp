#include "src/comm/host/mpi_library.hpp"

#include <mpi.h>

#include <array>

namespace fpdist::comm {

std::string mpi_library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> version{};
  int length = 0;
  if (MPI_Get_library_version(version.data(), &length) != MPI_SUCCESS) return "";
  return {version.data(), static_cast<size_t>(length)};
}

}  // namespace fpdist::comm
