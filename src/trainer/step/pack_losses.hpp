#pragma once
// trainer (private): packs on the last run of layers, each from its first Forward to its last BackwardInput: the heads,
// the scores' way to the loss, the loss, and back.

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "fpdist/plan/op.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/loss/score_columns.hpp"
#include "src/trainer/step/packs.hpp"
#include "src/trainer/step/step_parts.hpp"
#include "src/trainer/step/step_results.hpp"

namespace fpdist::trainer {

class PackLosses {
 public:
  /// `totals`, `step` and `results` must outlive it; losses and their metrics go into `results`.
  /// `step`: what the loss has taken down of the whole step, see view_of_step.
  PackLosses(const StepParts& parts, const plan::StepTotals& totals, const loss::View& step, StepResults& results);

  /// Hidden rows of the slice op.slice, the policy's and, where it runs beside, the reference's. With the pack's last
  /// slice the loss is taken. `is_next`: the slice's backward is this rank's next op. Where gradients are switched off
  /// (at::NoGradGuard) there will be none, and nothing is kept for it. Collective over tp and cp.
  void forward(const plan::Op& op, const Pack& pack, const at::Tensor& hidden, const at::Tensor& reference_hidden,
               bool is_next);
  /// The loss's gradient of the slice's hidden rows, zeros where no edge of the pack depends on them; the head's
  /// weights get theirs. Collective over tp.
  at::Tensor backward(const plan::Op& op, const Pack& pack);

 private:
  /// A slice's values, the head's graph over this rank's share, feed the leaves that the loss is taken from when the
  /// last slice is there; `sent` is what of them goes to all ranks.
  struct Slice {
    at::Tensor hidden;
    std::vector<at::Tensor> value;
    at::Tensor sent;
    std::vector<at::Tensor> gradient;
  };
  struct AtLoss {
    std::vector<Slice> slice;
    std::vector<at::Tensor> leaf;
    at::Tensor loss;
  };
  bool scores_samples() const { return parts_.objective.needs().head == Head::kScore; }
  Slice score_head(const parallel::HeadRows& head, const at::Tensor& hidden) const;
  Slice language_head(const parallel::HeadRows& head, const at::Tensor& hidden, const at::Tensor& reference_hidden,
                      bool is_next);
  /// `own`: this rank's share, slice after slice; what it is the leaf of goes into `edges`.
  std::vector<at::Tensor> gather_samples(const Pack& pack, const at::Tensor& own, loss::Edges& edges) const;
  std::vector<at::Tensor> gather_scores(const Pack& pack, const at::Tensor& own, bool has_reference,
                                        loss::Edges& edges) const;
  void take_loss(const plan::Op& op, const Pack& pack, bool has_reference, AtLoss& at);
  /// The pack's first backward: the loss's gradient for every slice.
  void split_gradient(const Pack& pack, AtLoss& at) const;

  StepParts parts_;
  const plan::StepTotals& totals_;
  const loss::View& step_;
  StepResults& results_;
  std::map<int, AtLoss> at_loss_;  // by pack
  at::Tensor mean_head_row_;       // of the weights, which no pack changes; where the loss asks for it
};

}  // namespace fpdist::trainer
