#include "src/trainer/step/evaluate.hpp"

#include <future>
#include <utility>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/parallel/pipeline/executor.hpp"
#include "src/plan/step_tree.hpp"
#include "src/trainer/step/pack_run.hpp"

namespace fpdist::trainer {
namespace {

/// Batches in order, each planned on a thread while the one before it runs.
class Batches {
 public:
  Batches(const StepPlanner& planner, std::span<const data::Group> groups, size_t per_batch)
      : planner_(planner), rest_(groups), per_batch_(per_batch) {
    begin_next();
  }
  bool done() const { return !next_.valid(); }
  PlannedStep take() {
    PlannedStep planned = next_.get();
    begin_next();
    return planned;
  }

 private:
  void begin_next() {
    if (rest_.empty()) return;
    const auto batch = rest_.first(std::min(per_batch_, rest_.size()));
    rest_ = rest_.subspan(batch.size());
    next_ = std::async(std::launch::async, [this, batch] { return planner_.plan_apart(batch); });
  }

  const StepPlanner& planner_;
  std::span<const data::Group> rest_;
  size_t per_batch_;
  std::future<PlannedStep> next_;
};

/// The next batch, the same on every rank.
PlannedStep take_batch(Batches& batches, const StepPlanner& planner, const comm::Mesh& mesh, const std::string& name) {
  const comm::SlowWork slow(mesh.world(), "planning the " + name);
  PlannedStep planned = batches.take();
  if (planned.uploads) planned.uploads->wait();
  planned.name = name;
  planner.check_same(planned);
  return planned;
}

}  // namespace

Evaluated evaluate_groups(const StepParts& parts, const StepPlanner& planner, std::span<const data::Group> groups,
                          const std::string& when) {
  const Job& job = parts.job;
  const comm::Mesh& mesh = job.mesh;
  const size_t per_batch = index(job.config.train.groups_per_step);
  const size_t count = (groups.size() + per_batch - 1) / per_batch;
  Evaluated evaluated{.totals = plan::count_totals(groups), .is_mean_nll = parts.objective.is_mean_nll()};
  const plan::StepTotals whole = evaluated.totals;  // one normaliser: what batches have adds up
  MetricSums sums;
  sums.add(parts.objective(empty_edges(job), whole).metrics);
  sums.add("loss", loss::Combine::kSum, 0.0);
  sums.fetch(*job.device);
  Batches batches(planner, groups, per_batch);
  for (size_t batch = 1; !batches.done(); ++batch) {
    PlannedStep planned = take_batch(batches, planner, mesh, text(when, ", batch ", batch, " of ", count));
    evaluated.totals.tokens_computed += planned.plan.totals.tokens_computed;
    planned.plan.totals = whole;
    planned.is_first = batch == 1;  // nothing may have run yet
    PackRun run(parts, planned, RunUntil::kLosses);
    parallel::execute(run.ops(), static_cast<int>(parts.weights.runs().size()), run,
                      {mesh.pp(), mesh.pp_gradient(), *job.device}, [&](size_t i) { run.before(i); });
    sums.add(run.results().metrics);
  }
  evaluated.metrics = sums.reduce(mesh.world());
  return evaluated;
}

}  // namespace fpdist::trainer
