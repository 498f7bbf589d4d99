#include "support/run_ranks.hpp"
#include "support/transport.hpp"

namespace fpdist::test {

void run_ranks(const std::function<void(comm::World&)>& body, comm::CommOptions options) {
  comm::World world(nullptr, nullptr, options);
  travel(world, body);
}

}  // namespace fpdist::test
