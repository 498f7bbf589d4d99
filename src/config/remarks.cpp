#include "src/config/remarks.hpp"

#include <algorithm>
#include <optional>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/arch/config_json.hpp"
#include "src/config/computed_groups.hpp"
#include "src/core/words.hpp"
#include "src/plan/pack/pipeline_plan.hpp"
#include "src/plan/step_tree.hpp"

namespace fpdist::config {
namespace {

void remark_step(const Config& config, const data::Dataset& dataset, LogSink& log) {
  const int64_t groups = dataset.size(), wanted = config.train.groups_per_step;
  if (wanted > groups)
    log.warning(
        text("train.groups_per_step is ", wanted, " and the data have ", groups, " groups: every step is all of them"));
}

void remark_dtype(const Config& config, LogSink& log) {
  const std::string& path = config.model.path;
  if (path.empty()) return;
  const std::string theirs = arch::dtype_in(arch::read_config_json(path), arch::config_json_path(path));
  const std::string_view ours = name_of(config.model.dtype);
  if (theirs.empty() || theirs == ours) return;
  log.warning(text("the weights in ", path, " are ", theirs, " and model.dtype is ", ours,
                   theirs == "bfloat16" ? ": bfloat16 would take half of the memory (masters are float32 all the same)"
                                        : ": they are cast"));
}

void remark_stages(const plan::ParallelOptions& parallel, LogSink& log) {
  if (parallel.pp == 1 && parallel.schedule != plan::Schedule::k1F1B)
    log.warning(text("parallel.schedule is ", plan::name_of(parallel.schedule),
                     ", which orders the stages of a pipeline, and parallel.pp is 1: it changes nothing"));
  const auto idle = std::count(parallel.layers.begin(), parallel.layers.end(), 0);
  if (idle == 0) return;
  std::string layers;
  for (const int64_t run : parallel.layers) layers += text(layers.empty() ? "" : ",", run);
  log.warning(text("of the pipeline's ", parallel.layers.size(), " runs of layers ", idle, " have none (layers ",
                   layers,
                   "; the head is as much work as several): fewer stages, or parallel.layers, use the ranks better"));
}

/// Cost units of a step; nothing where there is no plan.
std::optional<int64_t> step_time(const plan::StepTree& tree, const Settled& job, plan::ParallelOptions parallel) {
  const plan::Atomic atomic = loss::spec_of(job.config.method, job.config.loss).atomic();
  plan::PlannerOptions options = plan::planner_options(atomic, parallel, job.config.pack);
  options.effort = 0;  // a comparison, not the plan
  try {
    return plan::plan_pipeline(tree.tree, job.costs, options).step;
  } catch (const ConfigError&) {
    return std::nullopt;
  }
}

void remark_mesh(const Settled& job, const data::Dataset& dataset, const data::Loader& loader, LogSink& log) {
  const plan::ParallelOptions& mesh = job.config.parallel;
  if (mesh.pp == 1) return;
  const plan::StepTree tree = plan::make_step_tree(computed_groups(data::pick_groups(dataset, loader.step(0)), job, 1),
                                                   job.config.pack.share_prefix);
  const std::optional<int64_t> now = step_time(tree, job, mesh);
  if (!now) return;
  for (int stages = 1; stages < mesh.pp; ++stages) {
    if (mesh.pp % stages != 0) continue;
    plan::ParallelOptions fewer = mesh;
    fewer.pp = stages, fewer.layers.clear(), fewer.virtual_stages = 1, fewer.schedule = plan::Schedule::k1F1B;
    const std::optional<int64_t> then = step_time(tree, job, fewer);
    if (!then || *then > *now) continue;
    log.warning(text("parallel.pp ", mesh.pp, " makes steps no faster: simulated, the first one takes ",
                     number("%.2f", static_cast<double>(*now) / static_cast<double>(*then)),
                     " times as long as with pp ", stages, " on ", mesh.pp / stages, " times fewer ranks"));
    return;
  }
}

}  // namespace

void remark(const Settled& job, const data::Dataset& dataset, const data::Loader& loader, LogSink& log) {
  remark_step(job.config, dataset, log);
  remark_dtype(job.config, log);
  remark_stages(job.config.parallel, log);
  remark_mesh(job, dataset, loader, log);
}

}  // namespace fpdist::config
