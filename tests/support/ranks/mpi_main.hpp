#pragma once
// The main of test programs that run under mpirun (fpdist_add_test(... RANKS ...), source tests/support/mpi_main.cpp).
// All ranks run the same tests in the same order; rank 0 prints, the others print their failures only, and a failure on
// one rank is the exit code of all.

#include "fpdist/comm/world.hpp"

namespace fpdist::test {

/// The world of this job; a test that may kill its communicators makes a World of its own instead.
comm::World& test_world();

}  // namespace fpdist::test
