#pragma once
// trainer (private): from a plan's packs to tensors: the rows this rank answers for, and what the data says of edges.

#include <ATen/core/Tensor.h>

#include <map>
#include <span>
#include <string>
#include <vector>

#include "fpdist/data/sample.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/parallel/stage.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "fpdist/prefix/tree_layout.hpp"
#include "src/trainer/job.hpp"

namespace fpdist::trainer {

/// One pack as this rank sees it.
struct Pack {
  prefix::TreeLayout layout;
  parallel::PackTensors tensors;
  /// [slices] the rows as a reference has them that knows of no virtual tokens; empty: it has the same.
  std::vector<parallel::RowsHere> reference_rows;

  const parallel::RowsHere& rows_of_reference(size_t slice) const {
    return reference_rows.empty() ? tensors.slice[slice].rows : reference_rows[slice];
  }
  std::vector<const data::Group*> group;    ///< [B] group of each sample
  std::vector<const data::Sample*> sample;  ///< [B]

  std::vector<int64_t> place;   ///< [B] of each sample in the step, group by group
  int64_t first_edge = 0;       ///< edges of the step in packs ahead of it, replica by replica
  bool lacks_reference = true;  ///< the data has no reference log-probs of its samples
  /// "3.0, 3.1, ...": its samples as group.index.
  std::string samples() const;
};

/// Lays packs out when they are first asked for, or all at once on the thread that plans ahead. `job`, `groups` and
/// `plan` (or what it is moved into) must outlive it.
class Packs {
 public:
  Packs(const Job& job, std::span<const data::Group> groups, const plan::StepPlan& plan, bool share);
  const Pack& at(int pack);
  void make_all();
  const plan::PackPlan& plan_of(int pack) const;

 private:
  parallel::PackTensors tensors_of(const prefix::TreeLayout& layout, const plan::PackPlan& plan) const;
  const Job& job_;
  std::span<const data::Group> groups_;
  const std::vector<plan::PackPlan>& plans_;
  bool share_;
  std::vector<int64_t> first_sample_;  // of each group, in the step
  std::vector<int64_t> first_edge_;    // of each pack, in the step
  std::map<int, Pack> packs_;
};

/// What the loss sees besides the model's outputs.
loss::Edges data_edges(const Pack& pack, const loss::Needs& needs, const Job& job);

/// The edges of a pack with nothing in it: gives every rank the same metric names, and zeros.
loss::Edges empty_edges(const Job& job);

/// [S, columns] of all scores of the pack from this cp rank's, slice after slice. Collective over cp, not
/// differentiable.
at::Tensor all_scores(const at::Tensor& own, const Pack& pack, const comm::Mesh& mesh);

}  // namespace fpdist::trainer
