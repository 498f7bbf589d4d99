#pragma once
// One test body for both kinds of ranks. run_ranks_threads.cpp runs it on 1, 2, 3, 5 and 8 threads, run_ranks_mpi.cpp
// on the processes of this job; a test program links one of them. How tensors travel: support/transport.hpp.

#include <chrono>
#include <functional>

#include "fpdist/comm/world.hpp"

namespace fpdist::test {

/// Deadline for tests that expect no failure.
inline constexpr std::chrono::milliseconds kPatience = std::chrono::seconds(40);

/// Calls body(world) on every rank, over communicators that live for this call only.
void run_ranks(const std::function<void(comm::World&)>& body, comm::CommOptions options = {.timeout = kPatience});

}  // namespace fpdist::test
