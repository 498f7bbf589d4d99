#pragma once
// main (fpdist_bench): a model with random weights on one rank, and one GRPO group to take it forward and backward on.

#include "fpdist/comm/device.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/ops/parameter.hpp"
#include "fpdist/parallel/stage.hpp"
#include "fpdist/plan/step_plan.hpp"

namespace fpdist::bench {

/// A group of `group` completions of `completion` tokens behind one prompt of `prompt` tokens.
struct StepCell {
  int64_t prompt, completion, group;
};
data::Group random_group(const StepCell& cell, int64_t vocab);

/// Floating point operations of forward and backward, by the cost model: every node of the group once, or every sample
/// alone. `with_head`: the head's too, which no sharing saves.
double operations(const arch::Model& config, const data::Group& group, bool share, bool with_head);

class StepModel {
 public:
  StepModel(const arch::Model& config, comm::Device& device, const model::TransformerOptions& options);
  /// What one forward and backward of the group needs, laid out and on the device.
  struct Pass {
    struct Pack {
      parallel::PackTensors tensors;
      at::Tensor length, advantage;
    };
    std::vector<Pack> pack;
    plan::StepTotals totals;
  };
  /// Packs of at most `max_tokens` rows; throws ConfigError when a sample alone has more.
  Pass make_pass(const data::Group& group, bool share, int64_t max_tokens) const;
  void run(const Pass& pass);

 private:
  arch::Model config_;
  comm::Device& device_;
  model::Transformer model_;
  ops::FlatParameters flat_;
  loss::LossFunction loss_;
};

}  // namespace fpdist::bench
