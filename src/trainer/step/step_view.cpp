#include "src/trainer/step/step_view.hpp"

#include <ATen/ATen.h>

#include "fpdist/core/error.hpp"
#include "src/parallel/pipeline/executor.hpp"
#include "src/trainer/step/pack_run.hpp"

namespace fpdist::trainer {
namespace {

/// Views of packs, put where they belong in the step's.
class Collected {
 public:
  Collected(const PlannedStep& step, const Job& job) : job_(job) {
    for (const data::Group& group : step.groups.all) samples_ += static_cast<int64_t>(group.sample.size());
    for (const auto& packs : step.plan.replica)
      for (const plan::PackPlan& pack : packs) edges_ += pack.edges;
  }

  void add(const loss::View& pack, const loss::Edges& edges) {
    if (pack.sample.defined() && !all_.sample.defined())
      all_.sample = at::zeros({samples_, pack.sample.size(1)}, pack.sample.options());
    if (pack.edge.defined() && !all_.edge.defined()) all_.edge = at::zeros({edges_}, pack.edge.options());
    const Coordinates& rank = job_.mesh.at();
    if (rank.cp != 0 || rank.tp != 0) return;  // every rank of a pack has the same
    if (pack.sample.defined()) all_.sample.index_copy_(0, edges.place, pack.sample);
    if (pack.edge.defined()) all_.edge.narrow(0, edges.first_edge, pack.edge.size(0)).copy_(pack.edge);
  }

  /// Collective. Each value is one rank's and 0 on the others, so that their sum has its bits.
  loss::View reduce() {
    for (const at::Tensor* part : {&all_.sample, &all_.edge})
      if (part->defined()) reduce(*part);
    if (all_.edge.defined()) all_.ascending = std::get<0>(at::sort(all_.edge));
    return all_;
  }

 private:
  void reduce(const at::Tensor& part) const {
    at::Tensor sum = part;
    job_.mesh.world().all_reduce(sum);
  }

  const Job& job_;
  int64_t samples_ = 0, edges_ = 0;
  loss::View all_;
};

}  // namespace

loss::View view_of_step(const StepParts& parts, const PlannedStep& planned) {
  const loss::Look look = parts.objective.look();
  if (!look) return {};
  const PlannedStep& seen = planned.mismatched ? *planned.mismatched : planned;
  Collected collected(seen, parts.job);
  Objective looking = parts.objective;
  looking.set_loss([&](const loss::Edges& edges, const plan::StepTotals&) {
    collected.add(look(edges), edges);
    return loss::LossOutput{.loss = at::zeros({}, edges.length.options()), .metrics = {}};
  });
  StepParts ahead{.job = parts.job, .weights = parts.weights, .objective = looking, .reference = parts.reference};
  PackRun run(ahead, seen, RunUntil::kLosses);
  const comm::Mesh& mesh = parts.job.mesh;
  parallel::execute(run.ops(), static_cast<int>(parts.weights.runs().size()), run,
                    {mesh.pp(), mesh.pp_gradient(), *parts.job.device}, [&](size_t i) {
                      run.before(i);
                      parts.job.world.set_position(text(planned.name, ", ahead of its terms: ", run.position()));
                    });
  return collected.reduce();
}

}  // namespace fpdist::trainer
