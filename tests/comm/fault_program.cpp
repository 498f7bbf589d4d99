// Ranks that sum in a loop until rank 2 comes to the harm that the command line names. fault_test.py runs it.
// usage: comm_fault_program FAULT FOLDER TIMEOUT_MS; FOLDER gets pid_<rank> from every rank and `fault` when it
// happens.
#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"

namespace {

constexpr int kVictim = 2, kFaultyTurn = 5;

/// Returns true when the rank is to leave the loop.
bool come_to_harm(const std::string& fault, const std::string& folder, fpdist::comm::World& world) {
  std::ofstream(folder + "/fault") << "now\n";
  if (fault == "kill") std::raise(SIGKILL);
  if (fault == "stop") std::raise(SIGSTOP);
  if (fault == "exit") _exit(0);
  if (fault == "throw") throw fpdist::DataError("rows.jsonl:3:7: not a number");
  if (fault == "other") world.communicator().barrier();
  return fault == "leave";
}

void sum_for_ever(const std::string& fault, const std::string& folder, fpdist::comm::World& world) {
  at::Tensor tensor = at::ones({30000}, at::kDouble);  // long enough for both rounds of a sum
  for (int turn = 0;; ++turn) {
    world.communicator().all_reduce(tensor);
    tensor.fill_(1.0);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (turn == kFaultyTurn && world.rank() == kVictim && come_to_harm(fault, folder, world)) return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const std::string fault = argv[1], folder = argv[2];
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
  at::set_num_threads(1);
  fpdist::comm::World world(&argc, &argv, {.timeout = std::chrono::milliseconds(std::atoi(argv[3]))});
  std::ofstream(folder + "/pid_" + std::to_string(world.rank())) << getpid() << "\n";
  world.communicator().barrier();
  try {
    sum_for_ever(fault, folder, world);
  } catch (const fpdist::Error& error) {
    std::fprintf(stderr, "rank %d: %s\n", world.rank(), error.what());
    world.abort(static_cast<int>(error.exit_code()), error.what());
  }
  return 0;
}
