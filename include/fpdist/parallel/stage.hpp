#pragma once
// parallel: Stage, a run of layers as the executor sees it, and the rows of a pack that one rank computes. parallel
// knows stages, never models.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fpdist/ops/attention_calls.hpp"
#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::comm {
class Device;
}
namespace fpdist::plan {
struct CpPlan;
}

namespace fpdist::parallel {

class ContextExchange;

/// Which rows of a pack a rank answers for: the context-parallel plans' rows of its cp rank, one plan a slice (all rows
/// in one slice when there are none), cut into `tp_size` nearly equal runs between the linears.
struct RowShare {
  std::span<const plan::CpPlan> slices = {};
  int cp_rank = 0, tp_rank = 0, tp_size = 1;
  bool keyed = false;  ///< RowsHere::key is wanted
};

/// The rows of one slice of a pack that the cp rank computes, as every layer needs them: n rows, in row order; its tp
/// ranks hold runs of them.
struct RowsHere {
  int slice = 0, slices = 1;
  at::Tensor token;  ///< [n] int64
  at::Tensor depth;  ///< [n] int64, rotary positions
  at::Tensor key;    ///< [n] int64, equal for rows of equal paths, on any mesh; undefined if not asked for
  std::vector<int64_t> shard_rows;  ///< [tp] rows of each tp rank
  ops::AttentionMask mask;          ///< of the n rows over themselves; on the CPU, where attention is laid out
  ops::AttentionCallsPtr calls;     ///< of the mask, for a device; neither is used with an exchange
  bool deterministic = true;        ///< what the device promises, and so attention must
  std::shared_ptr<const ContextExchange> exchange;  ///< how keys reach this rank; null: all rows are here
  /// [C, context_dim] of the pack's prefixes that are made of contexts, in the order of their virtual tokens' ids;
  /// the same on all ranks and slices; undefined where the pack has none.
  at::Tensor prefix_context = {};

  int64_t own_rows(int tp_rank) const { return shard_rows[static_cast<size_t>(tp_rank)]; }
};

/// Which of the n rows of a slice reach a head, and what is asked of them there.
struct HeadRows {
  // Language model: scores whose source row is one of the n.
  at::Tensor row;              ///< [R_t] int64: own tp run's rows with a score, numbered within the run, ascending
  std::vector<int64_t> count;  ///< [tp] R_t of each tp rank; R is their sum
  at::Tensor score_row;        ///< [S_c] int64 index into the R rows
  at::Tensor score_target;     ///< [S_c] int64

  // Score head: last rows of samples.
  at::Tensor last_row;            ///< [B_t] int64 within the own tp run, of samples that end there
  bool has_empty_sample = false;  ///< a sample of the pack has no tokens, and so no last row anywhere
};

/// Where the heads' outputs stand for the loss: all scores, edges and samples of a pack, the same on every rank.
struct LossPlaces {
  std::vector<int64_t> score_count;   ///< [cp] scores of each cp rank in all slices
  at::Tensor score_place;             ///< [S] int64 place of each score in the concatenation over cp ranks
  at::Tensor own_score;               ///< int64 the pack's numbers of this cp rank's scores, slice after slice
  at::Tensor edge_score;              ///< [E] int64
  at::Tensor edge_sample;             ///< [E] int64
  std::vector<int64_t> sample_count;  ///< [cp * tp] B_t of each rank in all slices, tp innermost
  at::Tensor sample_place;            ///< [B] int64 place in the concatenation over those ranks; -1: no tokens
  at::Tensor own_sample;              ///< int64 the samples that end in the own tp runs, slice after slice
};

struct SliceTensors {
  RowsHere rows;
  HeadRows head;
};

/// A TreeLayout as tensors, as far as one rank needs it; made once per pack, shared by all layers.
struct PackTensors {
  std::vector<SliceTensors> slice;  ///< one where the pack travels whole
  LossPlaces places;
};
/// On `device` (null: the CPU), all but the masks.
PackTensors make_pack_tensors(const prefix::TreeLayout& layout, const RowShare& share = {},
                              comm::Device* device = nullptr);

/// A run of layers. A pack goes forward once and backward once; `pack` names it in between (any int, unique in flight).
/// A pack in slices goes forward slice by slice and backward in reverse: keys and values of its earlier slices stay
/// here, and so do the gradients that later slices give them.
class Stage {
 public:
  virtual ~Stage() = default;
  /// First run: `input` is undefined and rows come from rows.token; else the previous run's output. Returns the own
  /// tp run's hidden rows [n_t,H], a fresh leaf: on the last run the caller's loss is taken from it.
  virtual at::Tensor forward(int pack, const RowsHere& rows, const at::Tensor& input) = 0;
  /// Gradient of the returned rows in; gradient of the input out (undefined on the first run). Weight gradients are
  /// added to the main grads here unless deferred to backward_weight.
  virtual at::Tensor backward_input(int pack, int slice, const at::Tensor& grad_output) = 0;
  /// Runs what backward_input deferred; nothing is deferred without a split-backward schedule.
  virtual void backward_weight(int pack, int slice) = 0;
};

}  // namespace fpdist::parallel
