#include "src/trainer/planning/calibrate.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "fpdist/core/rng.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/core/index.hpp"

namespace fpdist::trainer {
namespace {

constexpr int64_t kFields = 7;  // of an op that travels: pass, layers, head, rows, pairs, edges, seconds

}  // namespace

std::vector<plan::TimedOp> timed_ops(const PlannedStep& planned, const MeshShape& mesh, const Coordinates& at,
                                     std::span<const int64_t> layers, std::span<const plan::Op> ops,
                                     std::span<const parallel::OpTime> times) {
  using plan::OpKind;
  const bool is_split = planned.plan.schedule == plan::Schedule::kZeroBubble;
  const bool has_sharers = mesh.dp * mesh.cp > 1;
  const std::vector<plan::Amount>& work = planned.forecast.work.at(index(at.dp));
  std::vector<size_t> first_unit{0};
  for (const int slices : planned.plan.pipeline(at.dp).slices) first_unit.push_back(first_unit.back() + index(slices));
  std::vector<plan::TimedOp> timed;
  for (size_t i = 0; i < ops.size(); ++i) {
    const bool is_weight = ops[i].kind == OpKind::kBackwardWeight;
    if (ops[i].kind > OpKind::kBackwardWeight) continue;
    if (ops[i].completes && has_sharers) continue;  // its time is the reduction's too
    if (is_weight && !is_split) continue;           // done inside BackwardInput
    const auto run = index(ops[i].run * mesh.pp + at.pp);
    timed.push_back({.pass = ops[i].kind == OpKind::kForward ? plan::TimedPass::kForward
                             : is_weight                     ? plan::TimedPass::kBackwardWeight
                             : is_split                      ? plan::TimedPass::kBackwardInput
                                                             : plan::TimedPass::kBackward,
                     .layers = layers[run],
                     .has_head = run + 1 == layers.size(),
                     .work = work.at(first_unit[index(ops[i].pack)] + index(ops[i].slice)),
                     .seconds = times[i].end - times[i].begin});
  }
  return timed;
}

std::vector<plan::TimedOp> gather_ops(std::vector<plan::TimedOp> own, int64_t most, uint64_t seed,
                                      comm::Communicator& world) {
  const auto share = index(std::max<int64_t>(1, most / world.size()));
  Rng rng(seed, static_cast<uint64_t>(world.rank()));
  for (size_t i = 0; i < share && own.size() > share; ++i) std::swap(own[i], own[i + rng.below(own.size() - i)]);
  own.resize(std::min(own.size(), share));

  at::Tensor mine = at::empty({static_cast<int64_t>(own.size()) * kFields}, at::kDouble);
  double* out = mine.mutable_data_ptr<double>();
  for (const plan::TimedOp& op : own) {
    const std::array<double, kFields> fields{static_cast<double>(op.pass),
                                             static_cast<double>(op.layers),
                                             op.has_head ? 1.0 : 0.0,
                                             static_cast<double>(op.work.rows),
                                             static_cast<double>(op.work.pairs),
                                             static_cast<double>(op.work.edges),
                                             op.seconds};
    out = std::copy(fields.begin(), fields.end(), out);
  }
  const at::Tensor all = comm::gather_parts(mine, world).all;

  std::vector<plan::TimedOp> ops(index(all.numel() / kFields));
  const double* in = all.const_data_ptr<double>();
  for (plan::TimedOp& op : ops) {
    op.pass = static_cast<plan::TimedPass>(static_cast<int>(in[0]));
    op.layers = static_cast<int64_t>(in[1]), op.has_head = in[2] != 0;
    op.work = {static_cast<int64_t>(in[3]), static_cast<int64_t>(in[4]), static_cast<int64_t>(in[5])};
    op.seconds = in[6];
    in += kFields;
  }
  return ops;
}

plan::CostFit fit_together(std::span<const plan::TimedOp> ops, const plan::StageCosts& given,
                           comm::Communicator& world) {
  plan::CostFit fit{.costs = given};
  if (world.rank() == 0) fit = plan::fit_costs(ops, given);
  at::Tensor integers = at::tensor({fit.costs.per_row, fit.costs.forward_pair, fit.costs.backward_pair,
                                    fit.costs.per_edge, fit.costs.overhead_rows, fit.ops},
                                   at::kLong);
  at::Tensor reals = at::tensor({fit.seconds_per_unit, fit.mean_error, fit.worst_error}, at::kDouble);
  world.broadcast(integers, 0);
  world.broadcast(reals, 0);
  const int64_t* i = integers.const_data_ptr<int64_t>();
  fit.costs.per_row = i[0], fit.costs.forward_pair = i[1], fit.costs.backward_pair = i[2];
  fit.costs.per_edge = i[3], fit.costs.overhead_rows = i[4], fit.ops = i[5];
  const double* r = reals.const_data_ptr<double>();
  fit.seconds_per_unit = r[0], fit.mean_error = r[1], fit.worst_error = r[2];
  return fit;
}

void OpHistory::add(std::vector<plan::TimedOp> ops, size_t steps_kept) {
  if (holds_first_) steps_.clear();
  holds_first_ = !is_used_;
  is_used_ = true;
  steps_.push_back(std::move(ops));
  while (steps_.size() > steps_kept) steps_.pop_front();
}

std::vector<plan::TimedOp> OpHistory::all() const {
  std::vector<plan::TimedOp> all;
  for (const auto& ops : steps_) all.insert(all.end(), ops.begin(), ops.end());
  return all;
}

}  // namespace fpdist::trainer
