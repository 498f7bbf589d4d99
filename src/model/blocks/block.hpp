#pragma once
// One decoder block over the rows of a pack.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/model/kept_keys.hpp"
#include "fpdist/parallel/stage.hpp"
#include "src/model/blocks/rotary_table.hpp"
#include "src/model/weights.hpp"
#include "src/ops/attention_term.hpp"
#include "src/parallel/context/context_attention.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::model {

/// What every block of a pack needs beside its input.
struct PackContext {
  parallel::RowsHere rows;
  std::vector<RotaryTable> rotary;                      ///< [blocks]
  comm::Communicator* tp = nullptr;                     ///< null: one rank
  std::optional<uint64_t> masks = std::nullopt;         ///< of adapters' dropout in this step; none: nothing is dropped
  std::vector<parallel::ResidentKeys>* keys = nullptr;  ///< [blocks] of a pack in slices; null: a whole pack
  KeptKeys* kept = nullptr;                             ///< of rows before these; null: none are
  std::shared_ptr<const ops::PrefixCalls> prefix = {};  ///< null: there is no trained one
  /// [P, hidden] units that its keys and values are made of, of contexts [C, hidden]; undefined: of none.
  at::Tensor prefix_hidden = {};
  /// [n] of rows that stand for a prefix's keys: which of all prefixes' tokens; below 0 of others. Undefined: none do.
  at::Tensor prefix_place = {};

  /// All rows of the cp rank from the own run of them.
  at::Tensor gathered(const at::Tensor& own) const;
  /// The own run of them.
  at::Tensor own(const at::Tensor& all) const;
};

/// x [n_t,H] -> [n_t,H]: x + attention(norm(x)), then the same with the gated MLP. Differentiable in x and the weights.
/// `index`: the block's number in its run of layers.
at::Tensor block_forward(const at::Tensor& x, const BlockWeights& weights, const arch::Layer& layer,
                         const PackContext& context, size_t index);

}  // namespace fpdist::model
