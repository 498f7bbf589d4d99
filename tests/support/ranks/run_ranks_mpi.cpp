#include "tests/support/ranks/run_ranks.hpp"
#include "tests/support/ranks/transport.hpp"

namespace fpdist::test {

void run_ranks(const std::function<void(comm::World&)>& body, comm::CommOptions options) {
  comm::World world(nullptr, nullptr, options);
  travel(world, body);
}

}  // namespace fpdist::test
