// What stages hold is what the plan says they hold: rows in flight to the row, bytes of activations in proportion.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <utility>
#include <vector>

#include "bench/counting_allocator.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/config/model_size.hpp"
#include "src/plan/figures/step_volume.hpp"
#include "src/plan/schedule/simulate.hpp"
#include "src/trainer/step/pack_run.hpp"

namespace fpdist::trainer {
namespace {

/// One step's rows and bytes in flight on one stage.
struct Held {
  int64_t rows = 0;   ///< most whose forward has begun and whose last backward has not ended, runs counted apart
  int64_t bytes = 0;  ///< most that was alive between two ops, above what was alive before the step
};

/// Counts what goes through a stage's work.
class CountingWork final : public parallel::StepWork {
 public:
  CountingWork(PackRun& run, std::vector<plan::Amount> units, const plan::PipelineShape& shape, Held& held)
      : run_(run), units_(std::move(units)), held_(held), start_(bench::thread_counter()->live()) {
    is_split_ = shape.schedule == plan::Schedule::kZeroBubble;
    for (const int slices : shape.slices) first_.push_back(next_), next_ += static_cast<size_t>(slices);
  }
  at::Tensor forward(const plan::Op& op, const at::Tensor& input) override {
    held_.rows = std::max(held_.rows, rows_ += rows(op));
    return weighed(run_.forward(op, input));
  }
  at::Tensor backward_input(const plan::Op& op, const at::Tensor& grad) override {
    at::Tensor result = run_.backward_input(op, grad);
    if (!is_split_) rows_ -= rows(op);
    return weighed(std::move(result));
  }
  void backward_weight(const plan::Op& op) override {
    run_.backward_weight(op);
    if (is_split_) rows_ -= rows(op);
  }
  void reduce_gradients(const plan::Op& op) override { run_.reduce_gradients(op); }
  void optimizer_step() override { EXPECT_EQ(rows_, 0); }
  at::Tensor buffer(const plan::Op& op, bool gradient) override { return run_.buffer(op, gradient); }

 private:
  int64_t rows(const plan::Op& op) const {
    return units_[first_[static_cast<size_t>(op.pack)] + static_cast<size_t>(op.slice)].rows;
  }
  at::Tensor weighed(at::Tensor result) {
    held_.bytes = std::max(held_.bytes, bench::thread_counter()->live() - start_);
    return result;
  }
  PackRun& run_;
  std::vector<plan::Amount> units_;
  std::vector<size_t> first_;
  size_t next_ = 0;
  bool is_split_ = false;
  Held& held_;
  int64_t rows_ = 0, start_;
};

/// Prompts of 160 rows with four answers of 30 each.
std::vector<data::Group> long_groups(int count) {
  Rng rng(8, 1);
  std::vector<data::Group> groups;
  for (int g = 0; g < count; ++g) {
    data::Group& group = groups.emplace_back();
    group.id = g;
    std::vector<int32_t> prompt(160);
    for (int32_t& token : prompt) token = static_cast<int32_t>(rng.below(256));
    for (int m = 0; m < 4; ++m) {
      data::Sample& sample = group.sample.emplace_back();
      sample.token = prompt;
      sample.target.assign(prompt.size(), data::kIgnore);
      sample.prompt_length = 160;
      for (int t = 0; t < 30; ++t) {
        sample.token.push_back(static_cast<int32_t>(rng.below(256)));
        sample.target.push_back(sample.token.back());
      }
    }
  }
  return groups;
}

struct Measured {
  std::vector<Held> stage;
  Forecast planned;
};

double ratio(int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

struct Pipeline {
  plan::Schedule schedule;
  int pp, runs;
};

Measured measure(const Pipeline& pipeline, int slices) {
  const int pp = pipeline.pp, runs = pipeline.runs;
  static bench::CountingAllocator allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
  at::set_num_threads(1);
  Config config;
  config.method = Method::kSft;
  config.model.preset = "tiny";
  config.data.path = {"unused"};
  config.parallel.pp = pp, config.parallel.schedule = pipeline.schedule, config.parallel.virtual_stages = runs;
  config.pack.max_tokens = 300, config.pack.slices = slices;
  const std::vector<data::Group> groups = long_groups(8);
  Measured measured;
  measured.stage.resize(static_cast<size_t>(pp));
  comm::run_threads(pp, [&](comm::World& world) {
    bench::ByteCounter counter;
    bench::thread_counter() = &counter;
    {
      NullLog log;
      const Job job(world, config, log);
      StepPlanner planner(job);
      const Objective objective(job.config);
      Weights weights(job);
      const Reference none;
      const PlannedStep planned = planner.take(groups, 1);
      PackRun run({.job = job, .weights = weights, .objective = objective, .reference = none}, planned);
      CountingWork work(run, planned.forecast.work[0], planned.plan.pipeline(0),
                        measured.stage[static_cast<size_t>(world.rank())]);
      parallel::execute(run.ops(), runs, work, {job.mesh.pp(), job.mesh.pp_gradient(), *job.device},
                        [&](size_t i) { run.before(i); });
      if (world.rank() == 0) measured.planned = planned.forecast;
    }
    bench::thread_counter() = nullptr;
  });
  return measured;
}

/// Pipelines whose packs are measured whole and in four slices.
const std::vector<Pipeline> kPipelines{
    {plan::Schedule::k1F1B, 4, 1}, {plan::Schedule::kZeroBubble, 4, 1}, {plan::Schedule::kInterleaved, 2, 2}};

TEST(Memory, RowsAndBytesInFlightAreThoseOfThePlan) {
  for (const Pipeline& pipeline : kPipelines) {
    SCOPED_TRACE(plan::name_of(pipeline.schedule));
    const Measured whole = measure(pipeline, 1), sliced = measure(pipeline, 4);
    for (const Measured& measured : {whole, sliced}) {
      int64_t most = 0;
      for (const Held& held : measured.stage) most = std::max(most, held.rows);
      EXPECT_EQ(most, measured.stage[0].rows) << "the first stage holds most";
      EXPECT_EQ((most + pipeline.runs - 1) / pipeline.runs, measured.planned.peak_rows);
    }
    const double planned = ratio(sliced.planned.peak_rows, whole.planned.peak_rows);
    const double bytes = ratio(sliced.stage[0].bytes, whole.stage[0].bytes);
    EXPECT_LT(planned, 0.6) << "slices are there to hold less";
    // With interleaving the first stage also sends gradients: kept until they have arrived, which is a matter of time.
    EXPECT_NEAR(bytes / planned, 1, pipeline.runs == 1 ? 0.1 : 0.2);
    std::cout << plan::name_of(pipeline.schedule) << " pp " << pipeline.pp << ": whole " << whole.stage[0].rows
              << " rows, " << whole.stage[0].bytes << " bytes; sliced " << sliced.stage[0].rows << " rows, "
              << sliced.stage[0].bytes << " bytes; bytes fall to " << bytes << ", planned " << planned << "\n";
  }
}

struct Weighed {
  int64_t held = 0, planned = 0;              ///< between steps
  int64_t peak = 0, planned_activations = 0;  ///< above what is held, in a step
};

Weighed weigh(const Config& config) {
  static bench::CountingAllocator allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
  at::set_num_threads(1);
  Weighed weighed;
  comm::run_threads(1, [&](comm::World& world) {
    bench::ByteCounter counter;
    bench::thread_counter() = &counter;
    {
      NullLog log;
      Trainer trainer(world, config, log);
      (void)trainer.step(long_groups(2), log);
      weighed.held = counter.live();
      counter.restart();
      (void)trainer.step(long_groups(2), log);
      weighed.peak = counter.peak() - weighed.held;
      const config::Settled& job = trainer.settled();
      const plan::StageMemory plan = plan::rank_memory(config::model_bytes(job), job.config.parallel,
                                                       {.all = arch::parameter_count(job.model, Head::kLanguageModel),
                                                        .quantized = arch::quantized_count(job.model)},
                                                       {.row_layers = 280 * job.model.layer_count(), .unit_rows = 280});
      weighed.planned = plan.weights + plan.gradients + plan.optimizer;
      weighed.planned_activations = plan.activations;
    }
    bench::thread_counter() = nullptr;
  });
  return weighed;
}

/// No main grads, masters and moments of frozen weights, and weights in the bits that they have: bytes held between
/// steps are the plan's to a tenth.
TEST(Memory, OfAdaptersIsThePlans) {
  Config config;
  config.method = Method::kSft;
  config.model.preset = "tiny", config.data.path = {"unused"}, config.pack.max_tokens = 300;
  const auto expect_planned = [&](const char* what) {
    const Weighed weighed = weigh(config);
    EXPECT_NEAR(ratio(weighed.held, weighed.planned), 1, 0.1) << what;
    if (config.adapter.lora_dtype == "model") {  // else products come and go in float32
      EXPECT_NEAR(ratio(weighed.held + weighed.peak, weighed.planned + weighed.planned_activations), 1, 0.1) << what;
    }
    std::cout << what << ": " << weighed.held << " bytes held, planned " << weighed.planned << "; in a step "
              << weighed.peak << " more, planned activations " << weighed.planned_activations << "\n";
  };
  expect_planned("all weights");
  config.adapter.type = "lora", config.adapter.r = 8, config.adapter.target_modules = {"all-linear"};
  expect_planned("lora");
  config.model.load_in_4bit = config.model.bnb_4bit_use_double_quant = true;
  expect_planned("qlora, nested scales");
  config.model.dtype = DType::kBFloat16;
  expect_planned("qlora, bfloat16");
  config.adapter.lora_dtype = "float32";
  expect_planned("qlora, bfloat16 beside float32");
}

}  // namespace
}  // namespace fpdist::trainer
