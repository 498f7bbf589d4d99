#include "src/trainer/step/execute_step.hpp"

#include <c10/util/Exception.h>

#include "src/parallel/pipeline/executor.hpp"
#include "src/trainer/step/find_fault.hpp"
#include "src/trainer/step/out_of_memory.hpp"
#include "src/trainer/step/pack_run.hpp"

namespace fpdist::trainer {

StepRecord execute_step(const StepParts& parts, const PlannedStep& planned) {
  const Job& job = parts.job;
  PackRun run(parts, planned);
  StepRecord record{.planned = planned, .ops = run.ops()};
  const comm::MemoryUse before = job.device->memory();
  job.device->reset_peak_memory();
  try {
    record.times =
        parallel::execute(record.ops, static_cast<int>(parts.weights.runs().size()), run,
                          {job.mesh.pp(), job.mesh.pp_gradient(), *job.device}, [&](size_t i) { run.before(i); });
  } catch (const c10::OutOfMemoryError& error) {
    throw_out_of_memory(error.what_without_backtrace(), run.position(), before, planned.plan, job);
  }
  for (const PackRun::WaitedOp& wait : run.waits()) record.times[wait.op].begin += wait.seconds;
  record.exchange_seconds = run.exchange_seconds();
  record.metrics = planned.groups.metrics;
  record.metrics.merge(run.results().metrics.reduce(job.mesh.world()));
  record.grad_norm = run.results().grad_norm, record.learning_rate = run.learning_rate();
  record.end = run.results().end;
  if (record.end == StepEnd::kNotFinite) record.fault = describe_fault(parts, planned, run.results());
  if (!job.device->where().is_cpu()) record.memory = job.device->memory();
  return record;
}

}  // namespace fpdist::trainer
