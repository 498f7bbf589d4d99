#pragma once
// parallel: attention whose keys lie on several ranks of the cp axis, as a plan::CpPlan says. Local keys first while
// the first round's keys travel; then round by round. Partial outputs are merged in the accumulation dtype; backward
// keeps q, k, v, out and lse of the own rows, fetches the keys again in the same rounds, and sends each round's key
// gradients straight to the rows' owners, who add them round by round in ascending consumer order: same plan, same
// bits. Sources: Liu et al., "Ring Attention" (2023); Jacobs et al., "DeepSpeed Ulysses" (2023); group-cast as in
// MagiAttention (2025).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/comm/device.hpp"
#include "fpdist/ops/attention_calls.hpp"
#include "src/ops/attention_term.hpp"
#include "src/plan/context/context_plan.hpp"

namespace fpdist::parallel {

/// One pack's (or slice's) exchange on one cp rank: index tensors, made once and shared by all layers, forward and
/// backward. Also on an axis of one rank, where a pack is cut into slices.
class ContextExchange {
 public:
  /// Not collective. `plans`: those of the pack's slices up to and including this one, which is the last of them; a
  /// whole pack has one. `keys` and `gradients`: two communicators of the cp axis; they must outlive the exchange.
  /// `subtree_end` [T] of the whole pack. `device`: where rows, keys and gradients lie; null: the CPU.
  ContextExchange(std::span<const plan::CpPlan> plans, const std::vector<int32_t>& subtree_end,
                  comm::Communicator& keys, comm::Communicator& gradients, comm::Device* device = nullptr);
  ~ContextExchange();
  ContextExchange(const ContextExchange&) = delete;
  ContextExchange& operator=(const ContextExchange&) = delete;

  /// Rows whose queries this rank computes: its team's.
  int64_t queries() const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Keys and values of a pack in slices, of one layer on one rank: they stay while the pack's slices come and go, and
/// gather the gradients that later slices send to earlier ones. Slices go forward in order and backward in reverse.
struct ResidentKeys {
  at::Tensor keys;       ///< [rows of the own team in all slices so far, 2, Hkv, D] model dtype
  at::Tensor gradients;  ///< the same shape in the accumulation dtype, from the first backward on
};

/// Collective over the cp axis, forward and backward, also on a rank without rows. q [n,Hq,D], k and v [n,Hkv,D] of the
/// rank's own rows in row order -> out [n,Hq,D]; who sees whom, the exchange knows. With a Ulysses plan its degree must
/// divide Hkv. With slices: q, k and v of this slice's own rows, and `resident`, which must outlive the graph.
/// `term`: what every query sees besides, or null. Differentiable in q, k and v and in what the term trains.
at::Tensor context_attention(const ops::AttentionInputs& in, std::shared_ptr<const ContextExchange> exchange,
                             const ops::AttentionOptions& options, ResidentKeys* resident = nullptr,
                             const ops::AttentionTermPtr& term = nullptr);

}  // namespace fpdist::parallel
