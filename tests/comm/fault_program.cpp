// Ranks on a mesh that exchange and sum in a loop until rank 2 (of two ranks: rank 1) comes to the harm that the
// command line names. fault_test.py runs it. usage: comm_fault_program FAULT FOLDER TIMEOUT_MS [DEVICE]; DEVICE is cpu
// (default) or cuda: then device tensors travel. FOLDER gets pid_<rank> from every rank, `fault` when it happens and
// flight_<rank>.json from every rank that meets an error.
#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/log.hpp"

namespace {

using fpdist::comm::Communicator;
using fpdist::comm::World;

constexpr int kFaultyTurn = 5;

/// Sends to the next rank of the axis and receives from the one before.
struct Exchange {
  at::Tensor out, in;
  std::unique_ptr<fpdist::comm::Work> work;

  Exchange(Communicator& axis, at::Device where)
      : out(at::ones({30000}, at::TensorOptions(at::kDouble).device(where))), in(out.clone()) {
    axis.group_begin();
    axis.send(out, (axis.rank() + 1) % axis.size());
    axis.receive(in, (axis.rank() + axis.size() - 1) % axis.size());
    work = axis.group_start();
  }
};

struct Harm {
  std::string fault, folder;
  World& world;

  bool is_now(const std::string& name, int turn) const {
    if (fault != name || turn != kFaultyTurn || world.rank() != std::min(2, world.size() - 1)) return false;
    std::ofstream(folder + "/fault") << "now\n";
    return true;
  }
};

/// Returns when the rank is to leave.
void run_for_ever(const Harm& harm, fpdist::comm::Device& device) {
  World& world = harm.world;
  const bool is_wide = world.size() == 8;
  const int cp = world.size() == 2 ? 1 : 2;
  const fpdist::comm::Mesh mesh(world, {.dp = is_wide ? 2 : 1, .pp = 2, .cp = cp, .tp = 1}, &device);
  at::Tensor tensor =
      at::ones({30000}, at::TensorOptions(at::kDouble).device(device.where()));  // long enough for both rounds of a sum
  for (int turn = 0;; ++turn) {
    const auto stand_at = [&](const char* what) { world.set_position(fpdist::text("step ", turn, ", ", what)); };
    stand_at("keys under way");
    Exchange rows(mesh.pp(), device.where()), keys(mesh.cp(), device.where());
    if (harm.is_now("kill", turn)) std::raise(SIGKILL);
    if (harm.is_now("stop", turn)) std::raise(SIGSTOP);
    if (harm.is_now("exit", turn)) _exit(0);
    if (harm.is_now("throw", turn)) throw fpdist::DataError("rows.jsonl:3:7: not a number");
    keys.work->wait();
    stand_at("sum with rows under way");
    if (harm.is_now("other", turn)) world.communicator().barrier();
    mesh.world().all_reduce(tensor);
    tensor.fill_(1.0);
    rows.work->wait();
    device.synchronize();
    if (harm.is_now("leave", turn)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (harm.is_now("mpirun", turn)) continue;  // the test's part
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) return 2;
  const std::string fault = argv[1], folder = argv[2];
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
  at::set_num_threads(1);
  World world(&argc, &argv, {.timeout = std::chrono::milliseconds(std::atoi(argv[3]))});
  const std::string rank = std::to_string(world.rank());
  std::ofstream(folder + "/pid_" + rank) << getpid() << "\n";
  world.communicator().barrier();
  try {
    fpdist::NullLog log;
    const auto device = fpdist::comm::open_device(argc == 5 ? argv[4] : "cpu", world, {.share_gpus = true}, log);
    run_for_ever({fault, folder, world}, *device);
  } catch (const fpdist::Error& error) {
    const std::string record = folder + "/flight_" + rank;  // whole or not at all: another rank may end this one
    std::ofstream(record) << world.flight_record();
    std::rename(record.c_str(), (record + ".json").c_str());
    std::fprintf(stderr, "rank %d: %s\n", world.rank(), error.what());
    world.abort(static_cast<int>(error.exit_code()), error.what());
  }
  return 0;
}
