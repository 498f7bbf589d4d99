#pragma once
// trainer (private): everything one rank holds between two steps.

#include <future>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/ops/parameter.hpp"
#include "fpdist/optim/adamw.hpp"
#include "fpdist/parallel/executor.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/parallel/zero/zero_reducer.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/planning/step_planner.hpp"
#include "src/trainer/report/metric_sums.hpp"
#include "src/trainer/report/step_report.hpp"

namespace fpdist::trainer {

model::Head head_of(Method method);

/// Whether the embedding serves as the head on another stage, whose copy's gradients must be added.
bool ties_stages(const Config& config, const arch::Model& model);

/// Runs of layers of the whole pipeline, in model order; `layers`: of each.
std::vector<model::StageLayers> split_layers(const std::vector<int64_t>& layers);

/// The runs of layers of this rank, with their weights loaded or seeded; only the own slices are read.
std::vector<std::unique_ptr<model::Transformer>> load_model(const Config& config, const arch::Model& shape,
                                                            const comm::Mesh& mesh, at::Device where);

/// Whether every sample of the data set brings the reference's log-probs with it.
bool has_reference_logps(const data::Dataset& dataset);

/// The same weights as `policy`, frozen.
std::vector<std::unique_ptr<model::Transformer>> clone_frozen(
    const std::vector<std::unique_ptr<model::Transformer>>& policy);

/// All parameters of this rank's runs, those whose gradients other ranks complete last; `late`: where these begin in
/// FlatParameters' order.
struct OrderedParameters {
  std::vector<ops::ParameterPtr> all;
  size_t late = 0;
  std::vector<ops::ParameterPtr> by_use;  ///< the same, in the order in which forward reads them
};
OrderedParameters order_parameters(const std::vector<std::unique_ptr<model::Transformer>>& policy, bool ties_stages);

/// Throws NumericsError with the message of the highest rank that has one; returns when none has. Collective.
void throw_together(const std::string& own, comm::Communicator& world);

/// Bytes in torch's words "Tried to allocate 2.00 GiB"; 0 where they are missing.
int64_t requested_bytes(const std::string& message);

/// The pack.max_tokens below `rows`, the largest pack's, with which a step would have needed no more than the device
/// has, if what it allocates grows with it: `before` bytes were in use before the step, `wanted` bytes when the memory
/// ran out. A multiple of 64 from 640 on; 0: none.
int64_t fitting_max_tokens(int64_t rows, int64_t before, int64_t wanted, int64_t capacity);

/// What a step's packs add up to on this rank before anything is reduced.
struct StepSums {
  MetricSums metrics;
  /// The packs' losses, 0-dim and still on the device, and their samples as text.
  std::vector<std::pair<at::Tensor, std::string>> pack_loss;
  at::Tensor grad_norm;  ///< 0-dim float64 on the device
  at::Tensor stopped;    ///< [1] float32 on the device, on every rank the same: 1 where nothing was updated
  double learning_rate = 0;
  double read_norm = 0;  ///< grad_norm, once read_results has been there
  /// Marks of the device around what the optimizer step sends: the rest of the gradients' sums, and the new weights as
  /// far as they do not travel beside it.
  std::vector<std::pair<size_t, size_t>> exchange;
  double exchange_seconds = 0;  ///< in these, and in `waited`
  /// Ops that waited for weights on their way, and how long: part of the op's time, but none of its work.
  std::vector<std::pair<size_t, double>> waited;
};

/// Op `op` waited for weights between two marks of the device.
struct WeightWait {
  size_t op = 0, begin = 0, end = 0;
};

struct Trainer::Impl : Job {
  Impl(comm::World& world, Config config, LogSink& log, std::unique_ptr<comm::Device> device = nullptr);

  std::unique_ptr<comm::Communicator> kv_replicas;  ///< tp ranks that hold the same KV heads
  StepPlanner planner;
  std::vector<std::unique_ptr<model::Transformer>> policy;     ///< own runs of layers
  std::vector<std::unique_ptr<model::Transformer>> reference;  ///< only where the loss asks for it
  OrderedParameters ordered;
  ops::FlatParameters flat;
  parallel::ZeroReducer reducer;
  std::vector<optim::AdamW> optimizer;  ///< one a piece of the reducer
  loss::LossFunction loss;
  std::function<void(const StepMetrics&)> hook;
  int64_t steps_done = 0, tokens_seen = 0;
  bool is_last_use = false;              ///< the op under way completes the gradients of its run of layers
  size_t op_under_way = 0;               ///< its number in the step
  std::vector<WeightWait> weight_waits;  ///< of the step under way
  /// Ahead of any use of these parameters of the policy: the gathers of the last step's update are waited for here, as
  /// late as can be. All other readers of the weights call reducer.settle().
  void await_weights(std::span<const ops::ParameterPtr> parameters);

  // reference.cpp
  /// Reference log-probs of every pack of the data, stored in the samples; the reference model is dropped after it.
  void precompute_reference(std::vector<data::Group>& groups, LogSink& step_log);

  // train_step.cpp
  StepMetrics step(std::span<const data::Group> groups, LogSink& step_log);
  void finish_gradients();  ///< sums over tp, tied copies and what ZeRO has not reduced yet
  void update(StepSums& sums);

  /// bad_numbers.cpp: everything that the step has left on the device, in one copy; returns the gradient's norm. Throws
  /// NumericsError on every rank if a loss or the norm is not finite: then the update has changed nothing. Collective.
  double read_results(StepSums& sums);

  /// verify.cpp: runs the step's groups shared and alone; throws NumericsError with the worst difference if they
  /// disagree.
  void verify(const PlannedStep& planned, LogSink& step_log);

  /// memory.cpp: throws OutOfMemoryError in place of torch's, `message`.
  [[noreturn]] void throw_out_of_memory(const std::string& message, const std::string& position,
                                        const comm::MemoryUse& before, const plan::StepPlan& plan) const;

  bool writes_files = false;  ///< inside train(): output_dir is there
  TrafficMeter traffic;

  // trainer.cpp
  void train();
  void train_steps();

  // save.cpp
  void save(const std::string& directory);
  std::map<std::string, at::Tensor> gather_weights();
  std::map<std::string, at::Tensor> gather_gradients();
};

}  // namespace fpdist::trainer
