#pragma once
// ops: what a softmax sums over besides the keys of rows, for every query alike: merged into attention's (out, lse).
// Exact, as partial attention is (partial_attention.hpp): backward needs the whole row only through the merged out and
// lse. Hq and Hkv heads here, D head size, A the accumulation dtype.

#include <torch/custom_class.h>

#include <array>
#include <memory>

#include "fpdist/ops/attention_calls.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::ops {

/// Which of the term's heads queries are of: part `part` of `parts` even ones.
struct HeadPart {
  int64_t part = 0, parts = 1;
};

class AttentionTerm : public torch::CustomClassHolder {
 public:
  /// What a graph has to know of: weights, or tensors made of weights.
  using Trained = std::array<at::Tensor, 2>;
  virtual Trained trained() const = 0;
  /// Folds the term into `whole` (in A) of q [Tq,Hq,D].
  virtual void merge(AttentionOutput& whole, const at::Tensor& q, const AttentionOptions& options,
                     const HeadPart& heads) const = 0;
  /// Adds its share of dq [Tq,Hq,D] (in A) and of its main grads; `whole` with everything merged. Returns the gradients
  /// of trained(), undefined where there are main grads instead.
  virtual Trained backward(const at::Tensor& grad_out, const at::Tensor& q, const AttentionOutput& whole,
                           const AttentionOptions& options, const HeadPart& heads, at::Tensor& dq) const = 0;
};
using AttentionTermPtr = c10::intrusive_ptr<AttentionTerm>;

/// The calls of a prefix of P keys, which all of Tq queries see; made once per pack (or slice) for all layers.
struct PrefixCalls {
  AttentionMask mask;
  AttentionCallsPtr calls;
  int64_t frozen = 0;  ///< of its keys and values, at the front: they get no gradient

  static std::shared_ptr<const PrefixCalls> make(int64_t tokens, int64_t queries, at::Device device,
                                                 int64_t frozen = 0);
};

/// The keys of a trained prefix: keys and values [P, Hkv D]. Source: Li and Liang, "Prefix-tuning" (2021).
AttentionTermPtr prefix_term(ParameterPtr keys, ParameterPtr values, std::shared_ptr<const PrefixCalls> calls);
/// The same of keys and values that are made of weights, and are differentiated.
AttentionTermPtr prefix_term(at::Tensor keys, at::Tensor values, std::shared_ptr<const PrefixCalls> calls);

/// NTK-Attention's: values [Hq D, D] and keys [Hq, D] of each query head, see fpdist/arch/ntk.hpp. Source: Liang et
/// al., "Towards infinite-long prefix in transformer" (2024).
AttentionTermPtr ntk_term(ParameterPtr values, ParameterPtr keys);

/// tree_attention with a term: q [Tq,Hq,D], k and v [Tk,Hkv,D] -> out [Tq,Hq,D] in q's dtype. Differentiable in q, k, v
/// and, by way of their main grads, in what the term trains.
at::Tensor attention_with_term(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options,
                               const AttentionCallsPtr& calls, const AttentionTermPtr& term);

}  // namespace fpdist::ops
