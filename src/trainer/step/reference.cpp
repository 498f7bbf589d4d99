#include "src/trainer/step/reference.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/config/computed_groups.hpp"
#include "src/core/index.hpp"
#include "src/parallel/pipeline/executor.hpp"
#include "src/trainer/step/packs.hpp"

namespace fpdist::trainer {
namespace {

/// Forward ops alone; the last run of layers writes log-probs to where `place` says.
class LogpRun final : public parallel::StepWork {
 public:
  /// `is_first`: nothing has run on the device before.
  LogpRun(const ModelRuns& runs, const Job& job, std::span<const data::Group> groups, const plan::StepPlan& plan,
          bool is_first)
      : runs_(runs), job_(job), packs_(job, groups, plan, job.config.pack.share_prefix) {
    for (const data::Group& group : groups) {
      auto& of_group = offset_.emplace_back();
      for (const data::Sample& sample : group.sample) of_group.push_back(total_), total_ += sample.length();
    }
    if (is_first) first_pass_.emplace(job.mesh.world(), "in the first pass for log-probs");
    logp_ = at::zeros({total_}, job.tensor_options(job.sum_dtype()));
  }
  at::Tensor logp() const { return logp_; }

  at::Tensor forward(const plan::Op& op, const at::Tensor& input) override {
    const at::NoGradGuard frozen;
    const Pack& pack = packs_.at(op.pack);
    model::Transformer& run = *runs_[index(op.run)];
    const auto& [rows, head] = pack.tensors.slice[index(op.slice)];
    const at::Tensor hidden = run.forward(op.pack, rows, input);
    if (!run.options().layers.head) return hidden;
    std::vector<at::Tensor>& logps = logps_[op.pack];
    logps.push_back(run.logprobs(hidden, head).logp);
    if (logps.size() < pack.tensors.slice.size()) return {};
    const at::Tensor scores = all_scores(at::cat(logps).unsqueeze(1), pack, job_.mesh).select(1, 0);
    logps_.erase(op.pack);
    if (job_.mesh.at().cp == 0 && job_.mesh.at().tp == 0)
      logp_.index_put_({job_.device->upload(at::tensor(places(pack, op.pack), at::kLong))},
                       scores.index_select(0, pack.tensors.places.edge_score));
    return {};
  }
  at::Tensor buffer(const plan::Op& op, bool) override {
    return at::empty({rows_of(op).own_rows(job_.mesh.at().tp), job_.model.hidden_size},
                     job_.tensor_options(job_.dtype()));
  }
  at::Tensor backward_input(const plan::Op&, const at::Tensor&) override { return unused(); }
  void backward_weight(const plan::Op&) override { unused(); }
  void reduce_gradients(const plan::Op&) override { unused(); }
  void optimizer_step() override { unused(); }
  void queued() override { first_pass_.reset(); }

 private:
  const parallel::RowsHere& rows_of(const plan::Op& op) {
    return packs_.at(op.pack).tensors.slice[index(op.slice)].rows;
  }
  static at::Tensor unused() { throw std::logic_error("log-probs alone have no backward"); }

  /// Place of each edge of the pack in the step's flat list of tokens.
  std::vector<int64_t> places(const Pack& pack, int number) {
    std::vector<int64_t> all;
    for (size_t e = 0; e < pack.layout.edge_index.size(); ++e) {
      const plan::MemberRef& ref = packs_.plan_of(number).member[index(pack.layout.edge_sample[e])];
      all.push_back(offset_[index(ref.group)][index(ref.index)] + pack.layout.edge_index[e]);
    }
    return all;
  }

  const ModelRuns& runs_;
  const Job& job_;
  Packs packs_;
  std::vector<std::vector<int64_t>> offset_;  // of each sample's tokens in the step's flat list
  int64_t total_ = 0;
  std::map<int, std::vector<at::Tensor>> logps_;  // of a pack's slices, until the last is there
  at::Tensor logp_;
  std::optional<comm::SlowWork> first_pass_;
};

/// The groups behind the rows of virtual tokens that these runs have; none where they have none.
std::vector<data::Group> behind_rows(const ModelRuns& runs, std::span<const data::Group> groups, const Job& job) {
  if (runs.front()->config().adapter.prefix.row_tokens() == 0) return {};
  return data::behind(config::virtual_tokens(job.settled), groups, /*step=*/0);
}

}  // namespace

std::string reference_warning(std::span<const data::Group> groups, const loss::Needs& needs, const Config& config) {
  const auto brings = [](const data::Sample& sample) { return !sample.ref_logp.empty(); };
  const bool any = std::any_of(groups.begin(), groups.end(), [&](const data::Group& group) {
    return std::any_of(group.sample.begin(), group.sample.end(), brings);
  });
  const std::string& own = config.model.ref_path;
  if (any && !needs.reference)
    return "the data's reference log-probs are not read: the loss compares with none (loss.beta)";
  if (!needs.reference) return "";
  if (has_reference_logps(groups) && !needs.base_kl)
    return own.empty() ? "" : text("model.ref_path ", own, " is not used: the data bring the reference's log-probs");
  std::error_code ignored;
  const std::filesystem::path output = std::filesystem::path(config.model.path + "/..").lexically_normal();
  if (own.empty() && !config.model.path.empty() && std::filesystem::exists(output / "config.resolved.yaml", ignored))
    return text("model.path ", config.model.path,
                " was written by a run: its weights are the reference now; model.ref_path ",
                "names another, such as the model that run began with");
  return "";
}

bool has_reference_logps(std::span<const data::Group> groups) {
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample)
      if (sample.ref_logp.empty() && !sample.token.empty()) return false;
  return true;
}

std::vector<std::unique_ptr<model::Transformer>> frozen_copy(
    const std::vector<std::unique_ptr<model::Transformer>>& policy, bool keeps_adapter) {
  std::vector<std::unique_ptr<model::Transformer>> runs;
  for (const auto& run : policy) runs.push_back(run->frozen(keeps_adapter));
  return runs;
}

void Reference::store_logps(std::span<data::Group> groups, size_t per_step, const Job& job,
                            const StepPlanner& planner) const {
  trainer::store_logps(runs_, &data::Sample::ref_logp, groups, per_step, job, planner);
}

void store_logps(const ModelRuns& runs, std::vector<double> data::Sample::*into, std::span<data::Group> groups,
                 size_t per_step, const Job& job, const StepPlanner& planner) {
  const comm::Mesh& mesh = job.mesh;
  for (size_t first = 0; first < groups.size(); first += per_step) {
    const std::span<data::Group> given = groups.subspan(first, std::min(per_step, groups.size() - first));
    const std::vector<data::Group> behind = behind_rows(runs, given, job);
    const std::span<const data::Group> slice = behind.empty() ? given : std::span<const data::Group>(behind);
    const plan::StepPlan plan = [&] {
      const comm::SlowWork slow(mesh.world(), "planning a pass for log-probs");
      return planner.plan(slice, job.config.pack.share_prefix);
    }();
    LogpRun run(runs, job, slice, plan, first == 0);
    const auto ops = plan::forward_ops(plan.pipeline(mesh.at().dp))[index(mesh.at().pp)];
    parallel::execute(ops, static_cast<int>(runs.size()), run, {mesh.pp(), mesh.pp_gradient(), *job.device});
    at::Tensor logp = run.logp();
    mesh.world().all_reduce(logp);  // disjoint: every token is computed once
    const at::Tensor all = job.device->download(logp.to(at::kDouble));
    const double* value = all.const_data_ptr<double>();
    for (size_t g = 0; g < given.size(); ++g)
      for (size_t s = 0; s < given[g].sample.size(); ++s) {
        data::Sample& sample = given[g].sample[s];
        value += slice[g].sample[s].length();
        (sample.*into).assign(value - sample.length(), value);
      }
  }
}

}  // namespace fpdist::trainer
