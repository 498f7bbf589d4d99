#pragma once
// selected_logprob: log-probabilities of chosen tokens straight from hidden rows and the vocabulary weight.
// R rows, H hidden, V vocabulary, S scores; hidden [R,H], weight [V,H] of one model dtype; score_row [S] int64 in [0,R)
// ascending, target [S] int64 in [0,V), or -1 for "no column of this weight" (where the vocabulary is split). A =
// accumulation dtype. Logits are divided by `temperature`. They exist only in chunks of rows, in A; backward recomputes
// them from the saved lse (as Liger and Cut Cross-Entropy do).

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace fpdist::kernels {

/// (logit [S], lse [R], entropy [R], best [R] in A, argmax [R] int64) of the weight's own columns: logit is -inf for a
/// target of -1, best the largest logit of the row. Without columns (V = 0) lse and best are -inf, entropy and argmax
/// 0.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> partial_logprob(const at::Tensor& hidden,
                                                                                       const at::Tensor& weight,
                                                                                       const at::Tensor& score_row,
                                                                                       const at::Tensor& target,
                                                                                       double temperature);

/// (logp [S] in A, entropy [R] in A, argmax [R] int64, lse [R] in A). As torch.ops.fpdist.selected_logprob it is
/// differentiable in hidden and weight through logp and entropy; a given main grad receives dW in place of weight.grad.
/// logp is -inf for a target of -1.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> selected_logprob(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, const std::optional<at::Tensor>& weight_main_grad);

/// partial_logprob's results, or log-probabilities in place of the logits, and what a backward that comes soon need not
/// make again.
struct KeptLogprob {
  at::Tensor logit, lse, entropy, best, argmax;
  at::Tensor logits;  ///< for selected_logprob_backward of the same rows to use up; undefined where nothing is kept
};
KeptLogprob keeping_logprob(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                            const at::Tensor& target, double temperature, bool is_relative);

/// d_hidden [R,H] in hidden's dtype; adds dW into grad_weight [V,H] in A where given, or, where it does not accumulate,
/// writes it there, whatever that held. grad_logp [S] and grad_entropy
/// [R] in A, either may be absent; lse and entropy may be those of a larger vocabulary that this weight is a slice of.
/// A target of -1 counts in its row's sum of grad_logp and adds to no column.
at::Tensor selected_logprob_backward(const std::optional<at::Tensor>& grad_logp,
                                     const std::optional<at::Tensor>& grad_entropy, const at::Tensor& hidden,
                                     const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
                                     const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                                     const std::optional<at::Tensor>& grad_weight, bool accumulates = true,
                                     const std::optional<at::Tensor>& logits = std::nullopt);

/// The operator behind keeping_logprob; the logits are empty where nothing is kept.
using FlatKeepingLogprob = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, bool is_relative);

/// Throw ShapeError unless the arguments fit together; the same on every device, reading no element. (The CPU twin
/// reads score_row and target too and refuses what is unsorted or out of range.)
void check_selected_logprob(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                            const at::Tensor& target, double temperature);
void check_main_grad(const std::optional<at::Tensor>& grad_weight, const at::Tensor& weight);

}  // namespace fpdist::kernels
