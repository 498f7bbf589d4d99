// The executor runs op lists as they stand: order, values, shapes that differ from pack to pack, delays.

#include "src/parallel/pipeline/executor.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <mutex>

#include "fpdist/comm/mesh.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/comm/forwarding_communicator.hpp"

namespace fpdist::parallel {
namespace {

using plan::Op;
using plan::OpKind;

/// Rows of a pack: none for some.
int64_t rows_of(int pack) { return (pack * 5) % 4; }

/// Run r of the model adds r + 1 to rows that start as the pack's number; backward multiplies by r + 2.
class CountingWork final : public StepWork {
 public:
  CountingWork(int stages, int stage, int runs) : stages_(stages), stage_(stage), runs_(stages * runs) {}

  at::Tensor forward(const Op& op, const at::Tensor& input) override {
    note(op);
    const int run = run_of(op);
    EXPECT_EQ(input.defined(), run > 0);
    const at::Tensor rows = run == 0 ? at::full({rows_of(op.pack), 3}, double(op.pack), at::kDouble) : input;
    double wanted = op.pack;
    for (int r = 0; r < run; ++r) wanted += r + 1;
    expect_all(rows, op, wanted);
    return rows + (run + 1);
  }
  at::Tensor backward_input(const Op& op, const at::Tensor& grad) override {
    note(op);
    const int run = run_of(op);
    EXPECT_EQ(grad.defined(), run + 1 < runs_);
    const at::Tensor rows = run + 1 == runs_ ? at::full({rows_of(op.pack), 3}, double(op.pack + 1), at::kDouble) : grad;
    double wanted = op.pack + 1;
    for (int r = runs_ - 1; r > run; --r) wanted *= r + 2;
    expect_all(rows, op, wanted);
    return run == 0 ? at::Tensor() : rows * (run + 2);
  }
  void backward_weight(const Op& op) override { note(op); }
  void reduce_gradients(const Op& op) override { note(op); }
  void optimizer_step() override { note({OpKind::kOptimizerStep}); }
  at::Tensor buffer(const Op& op, bool) override {
    return at::full({rows_of(op.pack), 3}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  }
  const std::vector<Op>& done() const { return done_; }

 private:
  int run_of(const Op& op) const { return op.run * stages_ + stage_; }
  void note(const Op& op) { done_.push_back(op); }
  static void expect_all(const at::Tensor& rows, const Op& op, double value) {
    EXPECT_EQ(rows.size(0), rows_of(op.pack));
    EXPECT_TRUE(at::equal(rows, at::full_like(rows, value))) << plan::to_string(op);
  }
  int stages_, stage_, runs_;
  std::vector<Op> done_;
};

void run_schedule(plan::Schedule schedule, int stages, int runs, int packs, comm::CommOptions options = {}) {
  const plan::PipelineShape shape{
      .schedule = schedule, .stages = stages, .runs = runs, .slices = std::vector<int>(static_cast<size_t>(packs), 1)};
  const auto lists = plan::pipeline_ops(shape);
  options.timeout = std::chrono::seconds(60);
  comm::run_threads(
      stages,
      [&](comm::World& world) {
        const comm::Mesh mesh(world, {.dp = 1, .pp = stages});
        const auto device = comm::make_cpu_device();
        const std::vector<Op>& ops = lists[static_cast<size_t>(world.rank())];
        CountingWork work(stages, world.rank(), runs);
        std::vector<size_t> announced;
        const auto times = execute(ops, runs, work, {mesh.pp(), mesh.pp_gradient(), *device},
                                   [&](size_t i) { announced.push_back(i); });
        std::vector<Op> planned;  // messages have no work of their own
        for (const Op& op : ops)
          if (op.peer < 0) planned.push_back(op);
        EXPECT_EQ(work.done(), planned) << "executed order is planned order";
        ASSERT_EQ(times.size(), ops.size());
        ASSERT_EQ(announced.size(), ops.size());
        for (size_t i = 0; i < times.size(); ++i) {
          EXPECT_EQ(announced[i], i);
          EXPECT_LE(times[i].begin, times[i].end);
          EXPECT_LE(i > 0 ? times[i - 1].end : 0.0, times[i].begin);
        }
      },
      options);
}

TEST(Executor, EveryScheduleRunsAsPlanned) {
  for (const int stages : {1, 2, 3, 4})
    for (const int packs : {0, 1, 3, 12}) {
      SCOPED_TRACE(text(stages, " stages, ", packs, " packs"));
      run_schedule(plan::Schedule::k1F1B, stages, 1, packs);
      run_schedule(plan::Schedule::kZeroBubble, stages, 1, packs);
      if (packs % stages == 0) run_schedule(plan::Schedule::kInterleaved, stages, 3, packs);
    }
}

/// Writes down how many ops the work had done when a receive was posted.
class WatchedAxis final : public comm::ForwardingCommunicator {
 public:
  WatchedAxis(std::unique_ptr<comm::Communicator> axis, const CountingWork& work)
      : ForwardingCommunicator(std::move(axis)), work_(work) {}
  void receive(at::Tensor& tensor, int peer) override {
    posted.push_back(work_.done().size());
    inner().receive(tensor, peer);
  }
  std::vector<size_t> posted;

 private:
  const CountingWork& work_;
};

TEST(Executor, ReceivesArePostedAheadOfTheOpBeforeTheirs) {
  const plan::PipelineShape shape{.schedule = plan::Schedule::k1F1B, .stages = 3, .runs = 1, .slices = {1, 1, 1, 1}};
  const auto lists = plan::pipeline_ops(shape);
  comm::run_threads(3, [&](comm::World& world) {
    const auto device = comm::make_cpu_device();
    const std::vector<Op>& ops = lists[static_cast<size_t>(world.rank())];
    CountingWork work(3, world.rank(), 1);
    WatchedAxis rows(world.communicator().split("pp", 0, world.rank()), work);
    WatchedAxis gradients(world.communicator().split("pp_gradient", 0, world.rank()), work);
    execute(ops, 1, work, {rows, gradients, *device});
    std::vector<size_t> wanted_rows, wanted_gradients;
    size_t computed = 0;
    for (const Op& op : ops) {
      if (op.peer < 0) ++computed;
      if (rows_of(op.pack) == 0) continue;  // nothing travels
      if (op.kind == OpKind::kReceive) wanted_rows.push_back(computed > 0 ? computed - 1 : 0);
      if (op.kind == OpKind::kReceiveGradient) wanted_gradients.push_back(computed - 1);
    }
    EXPECT_EQ(rows.posted, wanted_rows);
    EXPECT_EQ(gradients.posted, wanted_gradients);
  });
}

TEST(Executor, DelaysReorderNothing) {
  run_schedule(plan::Schedule::k1F1B, 4, 1, 8, {.max_delay = std::chrono::microseconds(500), .delay_seed = 3});
  run_schedule(plan::Schedule::kInterleaved, 2, 2, 8, {.max_delay = std::chrono::microseconds(500), .delay_seed = 4});
}

TEST(Executor, AListThatUsesWhatIsNotThereIsRefused) {
  comm::run_threads(1, [](comm::World& world) {
    const comm::Mesh mesh(world, {.dp = 1});
    const auto device = comm::make_cpu_device();
    CountingWork work(1, 0, 2);
    const std::vector<Op> ops{{OpKind::kForward, 0, 0, 1}};
    try {
      execute(ops, 2, work, {mesh.pp(), mesh.pp_gradient(), *device});
      FAIL() << "the second run of layers ran without the first";
    } catch (const std::logic_error& error) {
      EXPECT_NE(std::string(error.what()).find("input rows of pack 0, slice 0, run 1"), std::string::npos)
          << error.what();
    }
  });
}

}  // namespace
}  // namespace fpdist::parallel
