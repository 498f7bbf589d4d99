#include <gtest/gtest.h>

#include "tests/support/ranks/run_ranks.hpp"
#include "tests/support/ranks/transport.hpp"

namespace fpdist::test {

void run_ranks(const std::function<void(comm::World&)>& body, comm::CommOptions options) {
  for (const int ranks : {1, 2, 3, 5, 8}) {
    SCOPED_TRACE(testing::Message() << ranks << " thread ranks");
    comm::run_threads(
        ranks, [&](comm::World& world) { travel(world, body); }, options);
  }
}

}  // namespace fpdist::test
