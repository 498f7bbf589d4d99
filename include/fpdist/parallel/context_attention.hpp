#pragma once
// parallel: attention whose keys lie on several ranks of the cp axis, as a plan::CpPlan says. Local keys first while
// the first stage's keys travel; then stage by stage. Partial outputs are merged in the accumulation dtype; backward
// keeps q, k, v, out and lse of the own rows, fetches the keys again in the same stages, and sends each stage's key
// gradients straight to the rows' owners, who add them stage by stage in ascending consumer order: same plan, same
// bits. Sources: Liu et al., "Ring Attention" (2023); Jacobs et al., "DeepSpeed Ulysses" (2023); group-cast as in
// MagiAttention (2025).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/plan/dispatch.hpp"

namespace fpdist::parallel {

/// One pack's exchange on one cp rank: index tensors, made once and shared by all layers, forward and backward.
class ContextExchange {
 public:
  /// Not collective. `keys` and `gradients`: two communicators of the cp axis; they must outlive the exchange.
  /// `subtree_end` [T] of the whole pack.
  ContextExchange(const plan::CpPlan& plan, const std::vector<int32_t>& subtree_end, comm::Communicator& keys,
                  comm::Communicator& gradients);
  ~ContextExchange();
  ContextExchange(const ContextExchange&) = delete;
  ContextExchange& operator=(const ContextExchange&) = delete;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Collective over the cp axis, forward and backward, also on a rank without rows. q [n,Hq,D], k and v [n,Hkv,D] of the
/// rank's own rows in row order -> out [n,Hq,D]. With a Ulysses plan its degree must divide Hkv. Differentiable.
at::Tensor context_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             std::shared_ptr<const ContextExchange> exchange, double scale);

}  // namespace fpdist::parallel
