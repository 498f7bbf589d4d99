#pragma once
// plan: what a rank can be told to do. The op list of a rank is the whole of its step; whoever executes it adds nothing
// and reorders nothing.

namespace fpdist::plan {

/// kSend and kReceive move hidden rows to the next run of layers, the two others their gradient back.
enum class OpKind {
  kForward,
  kBackwardInput,
  kBackwardWeight,
  kSend,
  kReceive,
  kSendGradient,
  kReceiveGradient,
  kReduceGradients,
  kOptimizerStep
};

/// `pack` counts the replica's packs, `slice` the pack's slices, `run` the rank's own runs of layers (0 without
/// interleaving). `peer` is a pipeline rank, messages only. kReduceGradients names a run. `completes`: with this op
/// every gradient of the run's weights is there. One op of each run with packs: its last kBackwardWeight with zero
/// bubble, else its last kBackwardInput, in which the weight gradient is computed too.
struct Op {
  OpKind kind;
  int pack = 0, slice = 0, run = 0;
  int peer = -1;
  bool completes = false;
  bool operator==(const Op&) const = default;
};

}  // namespace fpdist::plan
