// A loss of one's own in the place of the configured one; everything else as fpdist_train has it: the YAML file, every
// key on the command line, and train() with its data, metrics, checkpoints and evaluation.
//   [mpirun -np N] example_own_loss own_loss.yaml [--section.key value ...]
// The loss is focal (Lin et al., "Focal Loss for Dense Object Detection", 2017): tokens that are likely already count
// less.

#include <ATen/ATen.h>

#include <iostream>

#include "fpdist/config/command_line.hpp"
#include "fpdist/fpdist.hpp"

namespace {

using namespace fpdist;

/// Sum over the pack's edges of -(1 - p)^2 log p, over the step's edges: shares of packs and ranks add up.
loss::LossOutput focal(const loss::Edges& edges, const plan::StepTotals& totals) {
  const at::Tensor unlikely = (1 - edges.logp.exp()).square();
  const at::Tensor total = unlikely.detach().sum();
  return {.loss = -(unlikely * edges.logp).sum() / static_cast<double>(std::max<int64_t>(totals.edges, 1)),
          .metrics = {{"focal_weight",
                       {loss::Combine::kMean, total, at::full_like(total, static_cast<double>(edges.logp.numel()))}}}};
}

/// The library never prints: lines come here, on every rank.
class Console final : public LogSink {
 public:
  explicit Console(bool speaks) : speaks_(speaks) {}
  void write(LogLevel level, std::string_view line) override {
    if (speaks_ || level != LogLevel::kInfo) std::cout << line << std::endl;
  }

 private:
  bool speaks_;
};

int fail(const Error& error) {
  std::cerr << error.what() << '\n';
  return static_cast<int>(error.exit_code());
}

}  // namespace

int main(int argc, char** argv) {
  config::CommandLine line;
  try {
    line = config::parse_command_line({argv + 1, argv + argc});
  } catch (const Error& error) {
    return fail(error);
  }
  if (line.help) return std::cout << config::help_text(), 0;
  World world(&argc, &argv);
  try {
    Console console(world.rank() == 0 && !line.quiet);
    Trainer trainer(world, line.config, console);
    trainer.add_inputs({&line.file, 1});
    trainer.set_loss(focal);
    double first = 0, last = 0, weight = 0;
    trainer.set_hook([&](const trainer::StepMetrics& metrics) {
      last = metrics.values.at("loss"), weight = metrics.values.at("focal_weight");
      if (metrics.step == 1) first = last;
    });
    trainer.train();
    if (world.rank() == 0)
      std::cout << "focal loss " << first << " at first, " << last << " at last, mean weight " << weight << '\n';
  } catch (const Error& error) {
    world.abort(fail(error), error.what());
    return static_cast<int>(error.exit_code());
  }
}
