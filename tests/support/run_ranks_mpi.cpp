#include "tests/support/run_ranks.hpp"
#include "tests/support/transport.hpp"

namespace fpdist::test {

void run_ranks(const std::function<void(comm::World&)>& body, comm::CommOptions options) {
  comm::World world(nullptr, nullptr, options);
  travel(world, body);
}

}  // namespace fpdist::test
