// GRPO that makes its own rollouts, judged by a function of one's own; everything else as fpdist_train has it: prompts,
// rounds, metrics, checkpoints and evaluation by generation.
//   [mpirun -np N] example_online_grpo online_grpo.yaml [--section.key value ...]
// The reward is the share of even tokens, which a model that knows nothing gets half of.

#include <iostream>

#include "fpdist/config/command_line.hpp"
#include "fpdist/fpdist.hpp"

namespace {

using namespace fpdist;

rewards::Values share_of_even_tokens(std::span<const rewards::JudgedText> completions) {
  rewards::Values values;
  for (const rewards::JudgedText& one : completions) {
    double even = 0;
    for (const int32_t token : one.token) even += token % 2 == 0;
    values.emplace_back(even / static_cast<double>(one.token.size()));
  }
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  World world(&argc, &argv);
  try {
    const config::CommandLine line = config::parse_command_line({argv + 1, argv + argc});
    NullLog quiet;
    Trainer trainer(world, line.config, quiet);
    trainer.add_inputs({&line.file, 1});
    trainer.set_reward("even", share_of_even_tokens);
    trainer.set_hook([&](const trainer::StepMetrics& metrics) {
      if (world.rank() == 0)
        std::cout << "step " << metrics.step << "  reward " << metrics.values.at("reward") << "  entropy "
                  << metrics.values.at("entropy") << "  sharing " << metrics.values.at("sharing_ratio") << "x\n";
    });
    trainer.train();
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    world.abort(static_cast<int>(error.exit_code()), error.what());
    return static_cast<int>(error.exit_code());
  }
}
