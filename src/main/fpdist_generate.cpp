// fpdist_generate: completions of prompts that share prefixes, on one process or on all ranks that mpirun starts.
//   [mpirun -np RANKS] fpdist_generate [--config FILE.yaml] --model.path DIR --prompts FILE.jsonl --output FILE.jsonl
//       [--rollout.num_generations 8 ...]

#include <iostream>
#include <optional>

#include "fpdist/comm/world.hpp"
#include "src/main/generate/generate_file.hpp"
#include "src/main/generate/generate_request.hpp"
#include "src/main/program.hpp"

int main(int argc, char** argv) {
  using namespace fpdist::main_program;
  prepare_environment();
  GenerateRequest request;
  const int parsed = run([&] {
    request = parse_generate_request({argv + 1, argv + argc});
    if (request.version) std::cout << version_text();
    if (request.help) std::cout << generate_help();
  });
  if (parsed != 0 || request.version || request.help) return parsed;
  const auto generate_on = [&](fpdist::comm::World& world) {
    ConsoleLog console(/*is_quiet=*/world.rank() != 0);
    generate_file(request, world, console);
  };
  if (launched_size() == 1) return run([&] { fpdist::comm::run_threads(1, generate_on); });
  std::optional<fpdist::comm::World> world;
  const int joined = run([&] { world.emplace(&argc, &argv); });
  if (joined != 0) return joined;
  return run_on(*world, [&] {
    check_launch(*world);
    generate_on(*world);
  });
}
