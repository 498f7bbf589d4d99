// Every collective on every axis of a mesh of dp x 2 x 2 ranks; each rank prints a line with a hash of all the bits
// that it was left with. nodes_test.py compares the lines of one node with those of several.
// usage: mpirun -np 8 mesh_bits_program, or mesh_bits_program 8: threads for ranks
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "fpdist/comm/mesh.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "tests/comm/rank_values.hpp"

namespace {

using fpdist::comm::Communicator;
using fpdist::test::values_of;

class Hash {
 public:
  void add(const at::Tensor& tensor) {
    const auto* bytes = static_cast<const unsigned char*>(tensor.data_ptr());
    for (size_t i = 0; i < tensor.nbytes(); ++i) value_ = (value_ ^ bytes[i]) * 1099511628211u;  // FNV-1a
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 1469598103934665603u;
};

void add_axis(Communicator& axis, int world_rank, at::ScalarType dtype, Hash& hash) {
  const int n = axis.size(), me = axis.rank();
  for (const int64_t count : {7, 50000}) {
    at::Tensor sum = values_of(world_rank, count, dtype);
    axis.all_reduce(sum);
    hash.add(sum);
  }
  const std::vector<int64_t> counts = fpdist::test::ragged_counts(n, 3000);
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  at::Tensor mine = at::zeros({counts[me]}, dtype), all = at::zeros({total}, dtype);
  axis.reduce_scatter_v(values_of(world_rank, total, dtype), mine, counts);
  axis.all_gather_v(mine, all, counts);
  at::Tensor told = values_of(world_rank, 100, dtype);
  axis.broadcast(told, n - 1);
  hash.add(all);
  hash.add(told);
  at::Tensor out = values_of(world_rank, 20000, dtype), in = at::zeros({20000}, dtype);
  axis.group_begin();
  axis.send(out, (me + 1) % n);
  axis.receive(in, (me + n - 1) % n);
  axis.group_start()->wait();
  hash.add(in);
}

void print_bits(fpdist::comm::World& world) {
  const fpdist::comm::Mesh mesh(world, {.dp = world.size() / 4, .pp = 2, .cp = 2, .tp = 1});
  Hash hash;
  for (Communicator* axis : {&mesh.dp(), &mesh.pp(), &mesh.cp(), &mesh.dp_cp(), &mesh.world()}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
      add_axis(*axis, world.rank(), dtype, hash);
    }
  }
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  std::printf("rank %d bits %016llx host %s local %d of %d\n", world.rank(),
              static_cast<unsigned long long>(hash.value()), host.data(), world.local_rank(), world.local_size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2) {
    fpdist::comm::run_threads(std::atoi(argv[1]), print_bits);
    return 0;
  }
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);  // two nodes on one machine share its cores
  at::set_num_threads(1);
  fpdist::comm::World world(&argc, &argv, {.timeout = std::chrono::seconds(30)});
  try {
    print_bits(world);
  } catch (const fpdist::Error& error) {
    std::fprintf(stderr, "rank %d: %s\n", world.rank(), error.what());
    world.abort(static_cast<int>(error.exit_code()), error.what());
  }
  return 0;
}
