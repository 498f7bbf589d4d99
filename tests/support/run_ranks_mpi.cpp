#include "support/run_ranks.hpp"

namespace fpdist::test {

void run_ranks(const std::function<void(comm::World&)>& body, comm::CommOptions options) {
  comm::World world(nullptr, nullptr, options);
  body(world);
}

}  // namespace fpdist::test
