#include "tests/support/ranks/mpi_main.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>

namespace fpdist::test {
namespace {

comm::World* the_world = nullptr;

/// Prints what fails and nothing else.
class FailuresOnly : public testing::EmptyTestEventListener {
 public:
  explicit FailuresOnly(int rank) : rank_(rank) {}
  void OnTestStart(const testing::TestInfo& info) override {  // asking gtest in OnTestPartResult would deadlock
    test_ = std::string(info.test_suite_name()) + "." + info.name();
  }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "[rank %d] %s: %s:%d: %s\n", rank_, test_.c_str(),
                 result.file_name() ? result.file_name() : "-", result.line_number(), result.message());
  }

 private:
  int rank_;
  std::string test_ = "outside of tests";
};

int environment_int(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoi(value) : otherwise;
}

}  // namespace

comm::World& test_world() { return *the_world; }

int run(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (environment_int("OMPI_COMM_WORLD_LOCAL_SIZE", 1) > static_cast<int>(std::thread::hardware_concurrency())) {
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
  }
  at::set_num_threads(1);
  comm::World world(&argc, &argv, {.timeout = std::chrono::minutes(1)});
  the_world = &world;
  if (world.rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailuresOnly(world.rank()));
  }
  try {
    const int own = RUN_ALL_TESTS();
    at::Tensor failed = at::full({1}, own, at::kInt);
    world.communicator().all_reduce(failed, comm::ReduceOp::kMax);
    return failed.item<int>();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "[rank %d] %s\n", world.rank(), error.what());
    world.abort(1, error.what());
    return 1;
  }
}

}  // namespace fpdist::test

int main(int argc, char** argv) { return fpdist::test::run(argc, argv); }
