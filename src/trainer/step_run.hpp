#pragma once
// trainer (private): the packs of one step on one rank, as the executor's StepWork.

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fpdist/loss/loss.hpp"
#include "fpdist/parallel/executor.hpp"
#include "fpdist/parallel/stage.hpp"
#include "fpdist/prefix/tree_layout.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {

/// One pack as this rank sees it.
struct Pack {
  prefix::TreeLayout layout;
  std::vector<parallel::PackTensors> slice;  ///< one where the pack travels whole
  std::vector<const data::Group*> group;     ///< [B] group of each sample
  std::vector<const data::Sample*> sample;   ///< [B]

  bool lacks_reference = true;  ///< the data has no reference log-probs of its samples
  /// "3.0, 3.1, ...": its samples as group.index.
  std::string samples() const;
};

/// Lays packs out when they are first asked for, or all at once on the thread that plans ahead. `groups` and `plan` (or
/// what it is moved into) must outlive it.
class Packs {
 public:
  Packs(const Job& job, std::span<const data::Group> groups, const plan::StepPlan& plan, bool share);
  const Pack& at(int pack);
  void make_all();
  const plan::PackPlan& plan_of(int pack) const;

 private:
  const Job& job_;
  std::span<const data::Group> groups_;
  const std::vector<plan::PackPlan>& plans_;
  bool share_;
  std::map<int, Pack> packs_;
};

/// What the loss sees besides the model's outputs.
loss::Edges data_edges(const Pack& pack, const Job& job);

/// The edges of a pack with nothing in it: gives every rank the same metric names, and zeros.
loss::Edges empty_edges(const Job& job);

/// [S, columns] of all scores of the pack from this cp rank's, slice after slice. Collective over cp, not
/// differentiable.
at::Tensor all_scores(const at::Tensor& own, const Pack& pack, const comm::Mesh& mesh);

/// Policy forward and backward, with the reference beside it, and the loss at the end.
class StepRun final : public parallel::StepWork {
 public:
  StepRun(Trainer::Impl& trainer, const PlannedStep& planned, std::span<const plan::Op> ops, StepSums& sums);
  /// Ahead of op i: says where the rank stands and which runs of layers see their last gradients.
  void before(size_t i);
  /// "step 3, op 17 of 40: Receive pack 2".
  const std::string& position() const { return position_; }
  at::Tensor forward(const plan::Op& op, const at::Tensor& input) override;
  at::Tensor backward_input(const plan::Op& op, const at::Tensor& grad_output) override;
  void backward_weight(const plan::Op& op) override;
  void reduce_gradients(const plan::Op& op) override;
  void optimizer_step() override;
  void queued() override;
  void finished(std::span<const double> seconds) override;
  at::Tensor buffer(const plan::Op& op, bool gradient) override;

 private:
  /// A pack on the last run of layers, between its first Forward and its last BackwardInput. Each slice's `value`, the
  /// head's graph over this rank's share, feeds `all`, the leaf that the loss is taken from when the last slice is
  /// there.
  struct AtLoss {
    struct Slice {
      at::Tensor hidden, value, columns, grad;
    };
    std::vector<Slice> slice;
    at::Tensor all, loss;
  };
  bool rides(const Pack& pack) const;
  AtLoss::Slice score_head(const parallel::PackTensors& tensors, const at::Tensor& hidden) const;
  AtLoss::Slice language_head(const parallel::PackTensors& tensors, const at::Tensor& hidden,
                              const at::Tensor& reference_hidden) const;
  /// `own`: this rank's columns, slice after slice.
  void gather_samples(const Pack& pack, const at::Tensor& own, loss::Edges& edges, AtLoss& at) const;
  void gather_scores(const Pack& pack, const at::Tensor& own, loss::Edges& edges, AtLoss& at) const;
  void take_loss(const Pack& pack, AtLoss& at);
  at::Tensor loss_gradient(const plan::Op& op);

  Trainer::Impl& trainer_;
  const plan::StepPlan& plan_;
  std::span<const plan::Op> ops_;
  StepSums& sums_;
  std::string position_;
  std::shared_ptr<Packs> packs_;
  std::map<int, AtLoss> at_loss_;
};

}  // namespace fpdist::trainer
