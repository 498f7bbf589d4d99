// GRPO that makes its own rollouts: the model completes prompts, each completion gets a reward, the step learns from
// them.
//   [mpirun -np N] example_online_grpo
// The reward is the share of even tokens, which a model that knows nothing gets half of.

#include <iostream>

#include "fpdist/fpdist.hpp"

namespace {

using namespace fpdist;

/// Eight prompts that share a preamble.
std::vector<std::vector<int32_t>> prompts_of(int round) {
  std::vector<std::vector<int32_t>> prompts;
  for (int32_t p = 0; p < 8; ++p) {
    std::vector<int32_t>& prompt = prompts.emplace_back();
    for (int32_t t = 0; t < 24; ++t) prompt.push_back(7 * t % 256);
    prompt.push_back((round + p) % 256);
  }
  return prompts;
}

double reward_of(const data::Sample& sample) {
  double even = 0;
  for (auto t = static_cast<size_t>(sample.prompt_length); t < sample.token.size(); ++t)
    even += sample.token[t] % 2 == 0;
  return even / static_cast<double>(sample.length() - sample.prompt_length);
}

/// Fills in every sample's reward; returns their mean.
double give_rewards(std::vector<data::Group>& groups) {
  double sum = 0, count = 0;
  for (data::Group& group : groups)
    for (data::Sample& sample : group.sample) {
      sample.reward = reward_of(sample);
      sum += *sample.reward, ++count;
    }
  return sum / count;
}

}  // namespace

int main(int argc, char** argv) {
  World world(&argc, &argv);
  Config config;
  config.method = Method::kGrpo;
  config.model.preset = "tiny";
  config.data.path = {"made by the model"};
  config.optim.learning_rate = 2e-3;
  config.train.max_steps = 24;
  generate::SamplingOptions sampling;
  sampling.num_generations = 8;
  sampling.max_completion_length = 12;
  try {
    NullLog quiet;
    Trainer trainer(world, config, quiet);
    uint64_t prompts_so_far = 0;
    for (int round = 1; round <= config.train.max_steps; ++round) {
      const auto prompts = prompts_of(round);
      std::vector<data::Group> groups = trainer.roll_out(prompts, sampling, prompts_so_far);
      prompts_so_far += prompts.size();
      const double reward = give_rewards(groups);
      const trainer::StepMetrics metrics = trainer.step(groups);
      if (world.rank() == 0)
        std::cout << "round " << round << "  reward " << reward << "  entropy " << metrics.values.at("entropy")
                  << "  sharing " << metrics.values.at("sharing_ratio") << "x\n";
    }
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    world.abort(static_cast<int>(error.exit_code()), error.what());
    return static_cast<int>(error.exit_code());
  }
}
