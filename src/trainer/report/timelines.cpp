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

bool is_message(plan::OpKind kind) { return kind >= plan::OpKind::kSend && kind <= plan::OpKind::kReceiveGradient; }

/// Fills in how much an event of replica `d` is about.
void weigh(plan::TimelineEvent& event, const plan::StepPlan& plan, int d, const Job& job) {
  if (event.op.kind > plan::OpKind::kReceiveGradient) return;
  const std::vector<int32_t>& end = plan.replica[index(d)][index(event.op.pack)].slice_end;
  const size_t slice = index(event.op.slice);
  event.rows = end[slice] - (slice > 0 ? end[slice - 1] : 0);
  if (is_message(event.op.kind))
    event.bytes = event.rows * job.settled.model.hidden_size * static_cast<int64_t>(c10::elementSize(job.dtype()));
}

/// On rank 0, every rank's ops and their times. Collective.
Events measured_events(const StepRecord& record, const Job& job) {
  const comm::Mesh& mesh = job.mesh;
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
      plan::TimelineEvent& event = events.emplace_back();
      event.rank = static_cast<int>(rank), event.op = op, event.begin = time[0], event.end = time[1];
      weigh(event, record.planned.plan, coordinates_of(event.rank, mesh.shape()).dp, job);
      time += 2;
    }
  return events;
}

/// The simulation of every replica's pipeline, one track a (replica, stage), scaled so that its compute takes as long
/// in all as the measured compute.
Events planned_events(const PlannedStep& planned, const Job& job, const Events& measured) {
  const Config& config = job.config;
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
      weigh(event, planned.plan, d, job);
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

/// "stage 1", and where others share the stage, which rank it is.
plan::Track track_of(int rank, const MeshShape& mesh) {
  const Coordinates at = coordinates_of(rank, mesh);
  plan::Track track{.replica = at.dp, .stage = at.pp, .line = at.cp * mesh.tp + at.tp, .name = text("stage ", at.pp)};
  if (mesh.cp > 1) track.name += text(" cp ", at.cp);
  if (mesh.tp > 1) track.name += text(" tp ", at.tp);
  track.name += text(" (rank ", rank, ")");
  return track;
}

}  // namespace

void write_timelines(const StepRecord& record, const Job& job, const std::string& base) {
  const Events measured = measured_events(record, job);
  if (job.world.rank() != 0) return;
  const comm::SlowWork slow(job.mesh.world(), text("writing ", base, ".json"));
  const MeshShape& mesh = job.config.parallel;
  const plan::Tracks ranks = [&](int rank) { return track_of(rank, mesh); };
  const plan::Tracks stages = [&](int rank) {
    plan::Track track = plan::stage_track(rank % mesh.pp);
    track.replica = rank / mesh.pp;
    return track;
  };
  files::write(base + ".json", plan::to_trace_json(measured, ranks) + "\n");
  const Events planned = planned_events(record.planned, job, measured);
  files::write(base + ".planned.json", plan::to_trace_json(planned, stages) + "\n");
  files::write(base + ".txt",
               text("measured\n", plan::to_text(measured, ranks), "planned\n", plan::to_text(planned, stages), "\n"));
}

}  // namespace fpdist::trainer
