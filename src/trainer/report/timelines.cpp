#include "src/trainer/report/timelines.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/files/files.hpp"
#include "src/plan/schedule/simulate.hpp"
#include "src/plan/schedule/timeline.hpp"

namespace fpdist::trainer {
namespace {

using Events = std::vector<plan::TimelineEvent>;

/// On rank 0, every rank's ops and their times. Collective.
Events measured_events(const StepRecord& record, const comm::Mesh& mesh) {
  comm::Communicator& world = mesh.world();
  std::vector<std::vector<plan::Op>> ops;
  std::vector<int64_t> counts;
  for (int rank = 0; rank < world.size(); ++rank) {
    ops.push_back(ops_of(record.planned.plan, coordinates_of(rank, mesh.shape())));
    counts.push_back(2 * static_cast<int64_t>(ops.back().size()));
  }
  at::Tensor own = at::empty({counts[index(world.rank())]}, at::kDouble);
  double* out = own.mutable_data_ptr<double>();
  for (const parallel::OpTime& time : record.times) *out++ = time.begin, *out++ = time.end;
  int64_t total = 0;
  for (const int64_t count : counts) total += count;
  at::Tensor all = at::empty({total}, at::kDouble);
  world.all_gather_v(own, all, counts);
  const double* time = all.const_data_ptr<double>();
  Events events;
  for (size_t rank = 0; rank < ops.size(); ++rank)
    for (const plan::Op& op : ops[rank]) {
      events.push_back({.rank = static_cast<int>(rank), .op = op, .begin = time[0], .end = time[1]});
      time += 2;
    }
  return events;
}

/// The simulation of every replica's pipeline, one track a (replica, stage), scaled so that its compute takes as long
/// in all as the measured compute.
Events planned_events(const PlannedStep& planned, const Config& config, const Events& measured) {
  const MeshShape& mesh = config.parallel;
  Events events;
  double planned_work = 0, measured_work = 0;
  for (int d = 0; d < mesh.dp; ++d) {
    const plan::PipelineShape shape = planned.plan.pipeline(d);
    std::vector<plan::UnitCost> units;
    for (const plan::Amount& work : planned.forecast.work[index(d)])
      units.push_back(plan::unit_cost(planned.costs, work));
    for (plan::TimelineEvent event :
         plan::simulate(shape, plan::pipeline_ops(shape), units, config.parallel.layers, /*with_events=*/true).events) {
      planned_work += event.end - event.begin;
      event.rank += d * mesh.pp;
      events.push_back(event);
    }
  }
  for (const plan::TimelineEvent& event : measured) {
    const Coordinates at = coordinates_of(event.rank, mesh);
    if (at.cp == 0 && at.tp == 0 && event.op.kind <= plan::OpKind::kBackwardWeight)
      measured_work += event.end - event.begin;
  }
  const double seconds = planned_work > 0 ? measured_work / planned_work : 0.0;
  for (plan::TimelineEvent& event : events) event.begin *= seconds, event.end *= seconds;
  return events;
}

}  // namespace

void write_timelines(const StepRecord& record, const Job& job, const std::string& base) {
  const Events measured = measured_events(record, job.mesh);
  if (job.world.rank() != 0) return;
  const comm::SlowWork slow(job.mesh.world(), text("writing ", base, ".json"));
  files::write(base + ".json", plan::to_trace_json(measured) + "\n");
  const Events planned = planned_events(record.planned, job.config, measured);
  files::write(base + ".planned.json", plan::to_trace_json(planned) + "\n");
  files::write(base + ".txt", text("measured\n", plan::to_text(measured), "planned\n", plan::to_text(planned), "\n"));
}

}  // namespace fpdist::trainer
