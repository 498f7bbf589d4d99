#pragma once
// plan: pipeline schedules as op lists. p stages, v runs (runs of layers) a stage: run c of stage s is run c*p + s
// of the model. Units (packs, or the slices of packs in pack order) go forward in order; backwards go pack by pack, a
// pack's slices in reverse. Sources: 1F1B, Narayanan et al. 2021 (PipeDream-Flush); interleaved, Narayanan et al., SC
// 2021; ZB-H1, Qi et al., "Zero Bubble Pipeline Parallelism" (ICLR 2024).

#include <span>
#include <string>
#include <vector>

#include "fpdist/plan/op.hpp"
#include "fpdist/plan/options.hpp"

namespace fpdist::plan {

struct PipelineShape {
  Schedule schedule = Schedule::k1F1B;
  int stages = 1;           ///< p
  int runs = 1;             ///< v; more than 1 only with kInterleaved
  std::vector<int> slices;  ///< [packs] slices of each pack, 1 for a whole one
  int window = 1;           ///< K: extra forwards ahead of a backward, in units (at least 1)
};

/// Why a shape has no op lists, with the smallest change that makes it fit (interleaving needs a multiple of p units);
/// empty when it fits.
std::string why_not(const PipelineShape& shape);

/// [stages] op lists: compute ops with the messages they need, then kReduceGradients of each run after its last
/// weight gradient (runs in descending order), then kOptimizerStep. Rows are received right before the forward that
/// needs them and sent right after the one that made them; gradients likewise, around backward. A message between runs
/// on the same rank is left out. BackwardWeight follows its BackwardInput at once (and the gradient leaves after both)
/// except with kZeroBubble, where the gradient leaves first. No packs: only reductions and the step.
/// Throws ConfigError with why_not's words.
std::vector<std::vector<Op>> pipeline_ops(const PipelineShape& shape);

/// Forward ops and their messages only, for passes without gradients.
std::vector<std::vector<Op>> forward_ops(const PipelineShape& shape);

/// Runs the lists with rendezvous sends (a send ends only when its receive has begun; sends are posted and do not hold
/// up their rank) and checks: no deadlock, every unit once through every run forward and backward and weight, messages
/// between two ranks received in the order in which they are sent (rows and gradients are two communicators), slices of
/// a pack forward in order and backward in reverse, each run's gradients completed by the op that says so and reduced
/// once after it, at most `window_units` units in flight on any stage (0: not checked; each of a unit's runs counts
/// 1/runs, from its forward to its weight gradient).
/// Lists without any backward, reduction or step are checked as a pass without gradients.
/// Returns "" or what is wrong, naming stage, position and op.
std::string validate_ops(const PipelineShape& shape, std::span<const std::vector<Op>> ops, int window_units = 0);

/// An op for people: F3 B3 W3 are pack 3, F3.1 is its slice 1, F3@1 its run 1; S3>1 and R3<0 are rows to stage 1 and
/// from stage 0, SG and RG gradients; reduce@1; step.
std::string to_string(const Op& op);

/// Op lists for people, one line a stage: "stage 0: F0 S0>1 F1 ...".
std::string to_text(std::span<const std::vector<Op>> ops);

}  // namespace fpdist::plan
