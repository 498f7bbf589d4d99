#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "src/comm/host/host_communicator.hpp"
#include "src/comm/host/thread_transport.hpp"

namespace fpdist::comm {

void run_threads(int ranks, const std::function<void(World&)>& body, CommOptions options) {
  check(ranks > 0, "run_threads: ", ranks, " ranks; at least one is needed");
  const auto job = std::make_shared<ThreadJob>(ranks, options);
  std::mutex mutex;
  std::exception_ptr first;
  const auto run = [&](int rank) {
    const auto transport = std::make_shared<ThreadTransport>(job, rank);
    World world(std::make_unique<HostCommunicator>(transport, "world"), ranks, transport->journal());
    std::string reason = "an unknown exception";
    try {
      body(world);
      return;
    } catch (const std::exception& error) {
      reason = error.what();
      const std::lock_guard lock(mutex);
      if (!first) first = std::current_exception();
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!first) first = std::current_exception();
    }
    world.abort(static_cast<int>(ExitCode::kPeer), reason);
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run, rank);
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace fpdist::comm
