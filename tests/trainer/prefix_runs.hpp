#pragma once
// Runs of one rank that train prefixes, step by step with their gradients.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/trainer/run/runs.hpp"

namespace fpdist::test {

using Tensors = std::map<std::string, at::Tensor>;

struct Outcome {
  std::map<std::string, double> metrics;
  Tensors gradients;
};

class PrefixRuns : public Runs {
 protected:
  /// `look` at a trainer of one rank.
  template <typename Look>
  void with(const config::Config& config, Look look) {
    comm::run_threads(1, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      look(trainer);
    });
  }
  Outcome step_of(const config::Config& config, const std::vector<data::Group>& groups) {
    Outcome outcome;
    with(config, [&](Trainer& trainer) {
      outcome.metrics = trainer.step(groups).values;
      outcome.gradients = trainer.gather_gradients();
    });
    return outcome;
  }
  std::string fault(const config::Config& config, const std::vector<data::Group>& groups) {
    return refusal<Error>([&] { step_of(config, groups); });
  }
};

inline void expect_close(const at::Tensor& got, const at::Tensor& wanted, const std::string& what) {
  EXPECT_LT((got - wanted).norm().item<double>(), 1e-10 * wanted.norm().item<double>()) << what;
}

}  // namespace fpdist::test
