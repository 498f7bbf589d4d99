// fpdist_train: [mpirun -np N] fpdist_train [--config] FILE.yaml [--section.key value ...] [--plan] [--print-config]

#include <chrono>
#include <filesystem>
#include <iostream>
#include <optional>
#include <system_error>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/config/command_line.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/config/describe_plan.hpp"
#include "src/main/program.hpp"

namespace {

using namespace fpdist;

/// A mesh that is given in full says how many ranks the job would have, without MPI or mpirun.
bool has_mesh(const config::Config& config) {
  const MeshShape& mesh = config.parallel;
  return mesh.dp > 0 && mesh.pp > 0 && mesh.cp > 0 && mesh.tp > 0;
}

void print_config(const config::Config& config) {
  std::cout << (has_mesh(config) ? to_yaml(config::settle(config, config.parallel.size())) : to_yaml(config));
}

void say(const std::vector<std::string>& chosen, LogSink& log) {
  for (const std::string& words : chosen) log.info(words);
}

/// A folder with a config.json and nothing that a run could load.
bool lacks_weights(const std::string& path) {
  const std::filesystem::path folder = path;
  std::error_code unknown;
  return std::filesystem::exists(folder / "config.json", unknown) &&
         !std::filesystem::exists(folder / "model.safetensors", unknown) &&
         !std::filesystem::exists(folder / "model.safetensors.index.json", unknown);
}

void print_plan(const config::CommandLine& line) {
  if (main_program::launched_rank() != 0) return;
  const config::Config& config = line.config;
  main_program::ConsoleLog console;
  say(line.chosen, console);
  std::optional<checkpoint::HfDirectory> weights;  // are looked at first, where they are there yet
  if (!config.model.path.empty() && lacks_weights(config.model.path))
    console.warning(text(config.model.path, " has no weights yet: planned by its config.json alone"));
  else if (!config.model.path.empty())
    weights.emplace(config.model.path);
  const auto untie = [&](arch::Model& model) {
    model.tie_word_embeddings = model.tie_word_embeddings && (!weights || checkpoint::ties_embedding(*weights, model));
  };
  const int ranks = has_mesh(config) ? config.parallel.size() : main_program::launched_size();
  std::cout << config::describe_plan(config, ranks, console, untie) << std::endl;
}

trainer::RunEnd train(comm::World& world, const config::CommandLine& line) {
  main_program::check_launch(world);
  main_program::ConsoleLog console(line.quiet);
  if (line.config.model.deterministic) main_program::prepare_determinism();
  trainer::Trainer trainer(world, line.config, console);
  trainer.add_inputs({&line.file, 1});
  if (world.rank() == 0) say(line.chosen, console);
  if (console.has_bar() && world.rank() == 0)
    trainer.set_progress([&](const trainer::RunProgress& progress) { console.show(progress); });
  trainer.set_stop(main_program::stop_asked);
  return trainer.train();
}

}  // namespace

int main(int argc, char** argv) {
  main_program::prepare_environment();
  std::optional<config::CommandLine> line;
  if (argc == 1) {
    return main_program::run([] {
      throw ConfigError(
          "what is to be trained? [mpirun -np RANKS] fpdist_train FILE.yaml [--section.key value ...]; --help says "
          "more, "
          "configs/ has files to begin with");
    });
  }
  const int parsed = main_program::run([&] { line = config::parse_command_line({argv + 1, argv + argc}); });
  if (parsed != 0) return parsed;
  if (line->version) return std::cout << main_program::version_text(), 0;
  if (line->help) return main_program::run([&] { std::cout << config::help_text(line->topic); });
  if (line->print_config) return main_program::run([&] { print_config(line->config); });

  if (line->plan) return main_program::run([&] { print_plan(*line); });

  main_program::catch_stop_signals();
  std::optional<comm::World> world;
  const trainer::TrainOptions& train_options = line->config.train;
  const comm::CommOptions options{.timeout = std::chrono::seconds(train_options.comm_timeout_seconds),
                                  .slow_timeout = std::chrono::seconds(train_options.slow_timeout_seconds)};
  const int joined = main_program::run([&] { world.emplace(&argc, &argv, options); });
  if (joined != 0) return joined;
  trainer::RunEnd end = trainer::RunEnd::kDone;
  const int code = main_program::run_on(*world, [&] { end = train(*world, *line); });
  return code == 0 && end == trainer::RunEnd::kStopped ? static_cast<int>(ExitCode::kStopped) : code;
}
