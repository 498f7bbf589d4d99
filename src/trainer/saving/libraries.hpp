#pragma once
// trainer (private): what computes here. Another library may add in another order.

#include <map>
#include <string>

namespace fpdist::trainer {

/// Name to version: fpdist and torch (as they were built), the BLAS, MPI, and the widest vectors that torch uses.
std::map<std::string, std::string> library_versions();

/// "torch 2.10 -> 2.11, cpu AVX2 -> AVX512"; "" where all are the same. What `before` has not is not compared.
std::string changed_libraries(const std::map<std::string, std::string>& before);

}  // namespace fpdist::trainer
