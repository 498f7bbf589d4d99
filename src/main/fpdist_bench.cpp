// fpdist_bench: what the parts cost on this machine, each with its baseline in the same run.
//   mpirun -np 8 fpdist_bench comm --from 1K --to 64M        collectives, in nccl-tests' terms
//   fpdist_bench gemm                                        linear layers against ATen's GEMM
//   fpdist_bench pointwise                                   the kernels between them against ATen's operations
//   fpdist_bench attention                                   our attention kernels against the levels' calls
//   fpdist_bench decode                                      attention of a step that decodes against the tree's bytes
//   fpdist_bench step --layers 4                             forward and backward, shared against unshared
//   mpirun -np 8 fpdist_bench scaling run.yaml --parallel.dp 8 --json FILE      one point of a scaling curve
//   fpdist_bench scaling --report FILE --html PAGE           the curve

#include <iostream>
#include <map>
#include <optional>

#include "fpdist/core/error.hpp"
#include "src/main/bench/bench.hpp"
#include "src/main/program.hpp"

namespace {

using namespace fpdist;

constexpr const char* kUsage =
    "fpdist_bench attention | comm | decode | gemm | pointwise | step | scaling [options]; fpdist_bench SUBCOMMAND "
    "--help lists "
    "them\n"
    "  attention  tree_attention both ways, our kernels against FlashAttention 2 by levels; on Hopper\n"
    "  comm       collectives: bandwidth by size and whether the results are right; under mpirun\n"
    "  decode     attention of a step that decodes: our kernels for it, our tiles, the tree's bytes; on a GPU\n"
    "  gemm       linear forward, input gradient and weight gradient against ATen's GEMM\n"
    "  pointwise  swiglu, rms_norm and rotary both ways against ATen's operations\n"
    "  step       forward and backward of a model shape, shared against unshared\n"
    "  scaling    a training step on any mesh: one line a job; --report draws the curve\n";

bench::Body prepare(const bench::Arguments& arguments) {
  const std::map<std::string, bench::Body (*)(const bench::Arguments&)> subcommands = {
      {"attention", bench::prepare_attention}, {"comm", bench::prepare_comm},
      {"decode", bench::prepare_decode},       {"gemm", bench::prepare_gemm},
      {"pointwise", bench::prepare_pointwise}, {"step", bench::prepare_step},
      {"scaling", bench::prepare_scaling}};
  if (!arguments.empty() && arguments[0] == "--version") {
    if (main_program::launched_rank() == 0) std::cout << main_program::version_text();
    return {};
  }
  if (!arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h")) {
    if (main_program::launched_rank() == 0) std::cout << kUsage;
    return {};
  }
  const auto found = arguments.empty() ? subcommands.end() : subcommands.find(arguments[0]);
  check<ConfigError>(found != subcommands.end(),
                     arguments.empty() ? "no subcommand" : "unknown subcommand " + arguments[0], ":\n", kUsage);
  return found->second({arguments.begin() + 1, arguments.end()});
}

}  // namespace

int main(int argc, char** argv) {
  main_program::prepare_environment();
  bench::Body body;
  const int parsed = main_program::run([&] { body = prepare({argv + 1, argv + argc}); });
  if (parsed != 0 || !body) return parsed;
  std::optional<comm::World> world;
  const int joined = main_program::run([&] { world.emplace(&argc, &argv); });
  if (joined != 0) return joined;
  return main_program::run_on(*world, [&] { body(*world); });
}
