#pragma once
// parallel: Stage, the layers that one pipeline rank holds, as the executor sees them. parallel knows stages, never
// models.

#include <ATen/core/Tensor.h>

#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::parallel {

/// A TreeLayout as tensors on the model's device; made once per pack, shared by all layers.
struct PackTensors {
  at::Tensor token;         ///< [T] int64
  at::Tensor depth;         ///< [T] int64, rotary positions
  at::Tensor row;           ///< [T] int32, 0..T-1
  at::Tensor subtree_end;   ///< [T] int32
  at::Tensor head_row;      ///< [R] int64: distinct rows with a score, ascending
  at::Tensor score_row;     ///< [S] int64 index into head_row
  at::Tensor score_target;  ///< [S] int64
  at::Tensor edge_score;    ///< [E] int64
  at::Tensor edge_sample;   ///< [E] int64
  at::Tensor last_row;      ///< [B] int64 row of each sample's last token (-1: no tokens)
  int64_t samples = 0;
};
PackTensors make_pack_tensors(const prefix::TreeLayout& layout, at::Device device);

/// One pipeline stage. A pack goes forward once and backward once; `pack` names it in between (any int, unique in
/// flight).
class Stage {
 public:
  virtual ~Stage() = default;
  /// First stage: `input` is undefined and rows come from tensors.token. Returns hidden rows [T,H] (a fresh leaf for
  /// the caller's loss on the last stage: call backward_input with the gradient that arrived at it).
  virtual at::Tensor forward(int pack, const PackTensors& tensors, const at::Tensor& input) = 0;
  /// Gradient of the returned rows in; gradient of the input out (undefined on the first stage). Weight gradients are
  /// added to the main grads here unless deferred to backward_weight.
  virtual at::Tensor backward_input(int pack, const at::Tensor& grad_output) = 0;
  /// Runs what backward_input deferred; nothing is deferred without a split-backward schedule.
  virtual void backward_weight(int pack) = 0;
};

}  // namespace fpdist::parallel
