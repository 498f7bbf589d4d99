// A loop that makes its samples itself, as reinforcement learning does, and a loss that is ten lines.
//   [mpirun -np N] example_rl_loop
// The "policy" should prefer even tokens; every step draws fresh groups of four completions behind one prompt.

#include <ATen/ATen.h>

#include <iostream>

#include "fpdist/core/rng.hpp"
#include "fpdist/fpdist.hpp"

namespace {

using namespace fpdist;

/// Four completions of one shared prompt in each of the step's 8 groups; this rank makes its share of them.
std::vector<data::Group> roll_out(uint64_t step, const World& world) {
  const auto rank = static_cast<uint64_t>(world.rank()), ranks = static_cast<uint64_t>(world.size());
  std::vector<data::Group> groups;
  for (uint64_t g = 8 * rank / ranks; g < 8 * (rank + 1) / ranks; ++g) {
    data::Group& group = groups.emplace_back();
    Rng rng(/*seed=*/1, 8 * step + g);  // the same samples however many ranks make them
    std::vector<int32_t> prompt(32);
    for (int32_t& token : prompt) token = static_cast<int32_t>(rng.below(256));
    for (int c = 0; c < 4; ++c) {
      data::Sample sample;
      sample.token = prompt;
      sample.target.assign(prompt.size(), data::kIgnore);
      sample.prompt_length = static_cast<int32_t>(prompt.size());
      double even = 0;
      for (int t = 0; t < 8; ++t) {
        sample.token.push_back(static_cast<int32_t>(rng.below(256)));
        sample.target.push_back(sample.token.back());
        even += sample.token.back() % 2 == 0;
      }
      sample.advantage = even / 4.0 - 1.0;
      group.sample.push_back(std::move(sample));
    }
  }
  return groups;
}

/// REINFORCE: minus the advantage-weighted mean log-prob. Divide by the step's own totals, never by the pack's.
loss::LossOutput reinforce(const loss::Edges& edges, const plan::StepTotals& totals) {
  const at::Tensor weight = edges.advantage.index_select(0, edges.sample) / static_cast<double>(totals.edges);
  const at::Tensor total = edges.logp.detach().sum();
  return {.loss = -(weight * edges.logp).sum(),
          .metrics = {{"mean_logp",
                       {loss::Combine::kMean, total, at::full_like(total, static_cast<double>(edges.logp.numel()))}}}};
}

}  // namespace

int main(int argc, char** argv) {
  World world(&argc, &argv);
  Config config;
  config.method = Method::kGrpo;
  config.model.preset = "tiny";
  config.data.path = {"made by the loop"};
  config.optim.learning_rate = 1e-3;
  config.train.max_steps = 5;
  try {
    NullLog quiet;
    Trainer trainer(world, config, quiet);
    trainer.set_loss(reinforce);
    for (int step = 0; step < config.train.max_steps; ++step) {
      const trainer::StepMetrics metrics =
          trainer.step(trainer.gather_groups(roll_out(static_cast<uint64_t>(step), world)));
      if (world.rank() == 0)
        std::cout << "step " << metrics.step << "  loss " << metrics.values.at("loss") << "  mean log-prob "
                  << metrics.values.at("mean_logp") << "  sharing " << metrics.values.at("sharing_ratio") << "x\n";
    }
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    world.abort(static_cast<int>(error.exit_code()), error.what());
    return static_cast<int>(error.exit_code());
  }
}
