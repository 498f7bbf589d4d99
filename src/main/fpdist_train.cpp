// fpdist_train: [mpirun -np N] fpdist_train [--config] FILE.yaml [--section.key value ...] [--plan] [--print-config]

#include <chrono>
#include <iostream>
#include <optional>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/config/describe_plan.hpp"
#include "src/main/program.hpp"

namespace {

using namespace fpdist;

/// Needs neither MPI nor mpirun: a mesh that is given in full says how many ranks the job would have.
void print_plan(const config::Config& config) {
  if (main_program::launched_rank() != 0) return;
  const bool given =
      config.parallel.dp > 0 && config.parallel.pp > 0 && config.parallel.cp > 0 && config.parallel.tp > 0;
  main_program::ConsoleLog console;
  if (!config.model.path.empty()) (void)checkpoint::HfDirectory(config.model.path);  // the weights are looked at first
  std::cout << config::describe_plan(config, given ? config.parallel.size() : main_program::launched_size(), console)
            << std::endl;
}

void train(comm::World& world, const config::Config& config) {
  main_program::ConsoleLog console;
  trainer::Trainer trainer(world, config, console);
  trainer.train(config::to_yaml(config));
}

}  // namespace

int main(int argc, char** argv) {
  main_program::prepare_environment();
  std::optional<config::CommandLine> line;
  const int parsed = main_program::run([&] { line = config::parse_command_line({argv + 1, argv + argc}); });
  if (parsed != 0) return parsed;
  if (line->help) return std::cout << config::help_text(), 0;
  if (line->print_config) return std::cout << config::to_yaml(line->config), 0;

  if (line->plan) return main_program::run([&] { print_plan(line->config); });

  std::optional<comm::World> world;
  const comm::CommOptions options{.timeout = std::chrono::seconds(line->config.train.comm_timeout_seconds)};
  const int joined = main_program::run([&] { world.emplace(&argc, &argv, options); });
  if (joined != 0) return joined;
  return main_program::run_on(*world, [&] { train(*world, line->config); });
}
