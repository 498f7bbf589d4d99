#include "src/main/plan/plan_config.hpp"

#include <algorithm>
#include <iostream>
#include <utility>

#include "fpdist/config/command_line.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/config/check_data.hpp"
#include "src/config/computed_groups.hpp"
#include "src/config/model_size.hpp"
#include "src/config/read_data.hpp"
#include "src/config/run_length.hpp"
#include "src/plan/context/context_plan.hpp"
#include "src/plan/step_tree.hpp"

namespace fpdist::main_program {
namespace {

class Warnings final : public LogSink {
 public:
  void write(LogLevel level, std::string_view line) override {
    if (level != LogLevel::kInfo) std::cerr << "warning: " << line << '\n';
  }
};

/// The job that `wanted` asks for, of as many ranks as its mesh has.
config::Settled settle(const ConfigRequest& wanted) {
  config::Config config = config::parse_command_line(wanted.arguments).config;
  if (!wanted.costs.empty()) config.plan.costs = wanted.costs;
  plan::ParallelOptions& mesh = config.parallel;
  for (int* axis : {&mesh.dp, &mesh.pp, &mesh.cp, &mesh.tp}) *axis = std::max(1, *axis);
  const int ranks = mesh.size();
  return config::settle(std::move(config), ranks);
}

/// Bytes between context-parallel ranks, from the very plans that the trainer makes for each pack.
int64_t context_traffic(const std::vector<data::Group>& groups, const plan::StepPlan& step,
                        const config::Settled& job) {
  const plan::ParallelOptions& parallel = job.config.parallel;
  if (parallel.cp == 1) return 0;
  const plan::CpHeads heads = config::context_heads(job.model, parallel.tp);
  int64_t elements = 0;
  for (const auto& packs : step.replica)
    for (const plan::PackPlan& pack : packs) {
      const prefix::TreeLayout layout = plan::lay_out(groups, pack, job.config.pack.share_prefix);
      for (const plan::CpPlan& slice : plan::plan_context_slices(layout.node, pack.slice_end, parallel, job.cp_costs)) {
        const plan::CpTraffic traffic = plan::predict_traffic(slice, heads);
        for (size_t rank = 0; rank < slice.rank_rows.size(); ++rank)
          elements += traffic.forward_sent(rank) + traffic.backward_sent(rank);
      }
    }
  return elements * job.model.layer_count() * parallel.tp * config::model_bytes(job).value;
}

}  // namespace

std::vector<PlanRequest> read_config(const ConfigRequest& wanted) {
  const config::Settled job = settle(wanted);
  const config::Config& config = job.config;
  Warnings log;
  const auto [dataset, eval] =
      config::read_job_data(config, job.model, config::MayWrite::kNo, config::Keep::kInMemory, log);
  config::check_packs(dataset, job);
  if (eval) config::check_evaluation_packs(*eval, job);
  const data::Loader loader = data::make_loader(dataset, config.data, config.train.groups_per_step, config.train.seed);
  const plan::Atomic atomic = loss::spec_of(config.method, config.loss).atomic();
  std::vector<PlanRequest> requests;
  const int64_t steps = std::min(wanted.steps, config::steps_of(config.train, loader.steps_per_epoch()));
  for (int64_t step = 0; step < steps; ++step) {
    const auto groups = config::computed_groups(data::pick_groups(dataset, loader.step(step)), job, step + 1);
    plan::StepTree tree = plan::make_step_tree(groups, config.pack.share_prefix);
    const plan::StepPlan plan = plan::make_step_plan(tree, atomic, config.parallel, job.costs, config.pack);
    PlanRequest& request = requests.emplace_back();
    request.costs = job.costs;
    request.options = plan::planner_options(atomic, config.parallel, config.pack);
    request.job = JobModel{.bytes = config::model_bytes(job), .context_bytes = 0, .hash = plan.hash, .sample = {}};
    request.job->context_bytes = context_traffic(groups, plan, job);
    for (const plan::MemberRef& member : tree.member)
      request.job->sample.push_back({groups[static_cast<size_t>(member.group)].id, member.index});
    request.tree = std::move(tree.tree);
  }
  return requests;
}

}  // namespace fpdist::main_program
