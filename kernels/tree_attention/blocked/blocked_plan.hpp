#pragma once
// tree_attention, blocked: how a problem is cut into tasks. By its shape alone, never by the number of threads: what a
// cut changes is the order in which numbers are added.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "fpdist/kernels/attention.hpp"
#include "kernels/tree_attention/blocked/blocked_kernel.hpp"

namespace fpdist::kernels {

/// By shape: what is fastest. By place: a row's arithmetic is a function of what it sees and of the keys' places in
/// their panels, whoever else is asked for.
enum class BlockedCut { kByShape, kByPlace };

/// Panels [first, second).
using PanelRun = std::pair<int64_t, int64_t>;

/// A problem with what it points to.
class BlockedPlan {
 public:
  /// `in` and `mask` are contiguous and must outlive it; `word`: elements of a word.
  BlockedPlan(const AttentionInputs& in, const AttentionMask& mask, double scale, int64_t word,
              BlockedCut cut = BlockedCut::kByShape);
  BlockedPlan(const BlockedPlan&) = delete;
  BlockedPlan& operator=(const BlockedPlan&) = delete;

  const BlockedProblem& problem() const { return problem_; }
  /// The same with query heads in the place of key heads, a row a query. It has no keys: whoever takes it has them
  /// packed.
  BlockedProblem by_query_head() const;
  int64_t blocks() const { return (problem_.rows() + kBlockRows - 1) / kBlockRows; }
  int64_t words() const { return problem_.padded / word_; }
  int64_t panel_words() const { return words() * kPanelKeys; }

  /// Runs of panels that are gone through by different tasks: of few queries against many keys, each run's result by
  /// itself. One where there are blocks of rows enough.
  std::vector<PanelRun> forward_runs() const;
  /// The same of backward, about as much work each.
  std::vector<PanelRun> backward_runs() const;
  /// Rows of a head that may see keys of this run.
  std::pair<int64_t, int64_t> rows_that_see(const PanelRun& run) const;

 private:
  std::vector<int32_t> q_row_, k_row_, k_end_;
  const int32_t* query_row_;
  std::vector<KeyPanel> panel_;
  int64_t word_;
  BlockedCut cut_;
  BlockedProblem problem_;
};

}  // namespace fpdist::kernels
