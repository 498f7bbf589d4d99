#pragma once
// trainer (private): everything one rank holds between two steps.

#include <memory>
#include <optional>
#include <vector>

#include "fpdist/comm/mesh.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/ops/parameter.hpp"
#include "fpdist/optim/adamw.hpp"
#include "fpdist/parallel/zero_reducer.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/trainer/metric_sums.hpp"

namespace fpdist::trainer {

at::ScalarType scalar_type(DType dtype);

/// Builds the configured model on the CPU with its weights loaded or seeded.
std::unique_ptr<model::Transformer> load_model(const Config& config, const model::ModelConfig& shape, bool trainable);
model::ModelConfig read_model_config(const model::ModelOptions& options);

/// Throws DataError when a token id is outside the model's vocabulary.
void check_vocabulary(const data::Dataset& dataset, const model::ModelConfig& model);

/// Whether every sample of the data set brings the reference's log-probs with it.
bool has_reference_logps(const data::Dataset& dataset);

/// The same weights as `policy`, frozen.
std::unique_ptr<model::Transformer> clone_frozen(const Config& config, const model::Transformer& policy);

/// What a step's packs add up to on this rank before anything is reduced.
struct StepSums {
  MetricSums metrics;
  double busy_seconds = 0;
  std::string bad_pack;  ///< first pack whose loss was not finite, as text; empty when all were
};

struct Trainer::Impl {
  Impl(comm::World& world, Config config, LogSink& log);

  comm::World& world;
  Config config;
  LogSink& log;
  comm::Mesh mesh;
  model::ModelConfig model_config;
  plan::CostTable costs;
  std::unique_ptr<model::Transformer> policy, reference;  // reference only where the loss asks for it
  ops::FlatParameters flat;
  parallel::ZeroReducer reducer;
  optim::AdamW optimizer;
  loss::LossFunction loss;
  std::function<void(const StepMetrics&)> hook;
  int64_t steps_done = 0, tokens_seen = 0;

  // A pack on its way between its Forward and its BackwardInput.
  struct InFlight {
    at::Tensor hidden, loss;
  };
  std::map<int, InFlight> in_flight;

  plan::StepPlan make_plan(std::span<const data::Group> groups, bool share) const;
  void check_same_plan(const plan::StepPlan& plan);

  // run_pack.cpp: the work of one pack.
  void forward_pack(std::span<const data::Group> groups, const plan::StepPlan& plan, int pack, bool share,
                    StepSums& sums);
  double backward_pack(int pack);  ///< seconds it took
  /// Reference log-probs of every pack of the data, stored in the samples; the reference model is dropped after it.
  void precompute_reference(std::vector<data::Group>& groups, LogSink& step_log);

  // train_step.cpp
  void stop_on_bad_loss(const StepSums& sums);
  void stop_on_bad_gradient(const at::Tensor& grad_shard, double norm);
  /// verify.cpp: runs `groups` shared and alone; throws NumericsError with the worst difference if they disagree.
  void verify(std::span<const data::Group> groups, LogSink& step_log);
  StepMetrics step(std::span<const data::Group> groups, LogSink& step_log);

  // trainer.cpp
  void train(const std::string& resolved_config);
  void save(const std::string& directory);
};

}  // namespace fpdist::trainer
