#pragma once
// Tests: how far an operator's result may be from float64, in one place. As relative_error counts it: the largest
// difference over the largest element (at least 1).

#include <ATen/core/Tensor.h>

namespace fpdist::test {

/// What a result is made of, which decides how often it was rounded.
enum class Made {
  kElement,            ///< a handful of operations on its own inputs, in the dtype
  kProduct,            ///< a sum of some hundred products, in the dtype
  kSum,                ///< the same, kept in the accumulation dtype: main grads, log-probabilities, lse
  kAttention,          ///< tree_attention's output, in the accumulation dtype
  kAttentionGradient,  ///< its gradients, likewise
  kHiddenGradient,     ///< selected_logprob's d_hidden, in the dtype
  kHeadGradient,       ///< its main grad, in the accumulation dtype
};

inline double bfloat16_tolerance(Made made) {
  // bfloat16 keeps 8 bits: one rounding is 2^-9 of an element at most. Inputs are exact; sums are of float32.
  constexpr double kRounding = 1.0 / 512;
  switch (made) {
    case Made::kElement:
    case Made::kProduct:
      return 2 * kRounding + 1e-4;  // twice where a norm rounds before its weight
    case Made::kSum:
      return 1e-5;  // float32's
    case Made::kAttention:
      // FlashAttention and cuDNN round P and every part's output; what a level adds is rounded again. A CPU that
      // multiplies bfloat16 rounds P as well.
      return 4 * kRounding;
    case Made::kAttentionGradient:
      // There O, P and dS are rounded too, each part on its way out, and few keys leave little to average over.
      return 16 * kRounding;
    case Made::kHiddenGradient:
    case Made::kHeadGradient:
      // The gradient of the logits is rounded for its two products: 2^-9 of the largest in some 30 terms of either
      // sign.
      return 4 * kRounding;
  }
  return 0;
}

inline double tolerance(Made made, at::ScalarType dtype = at::kDouble) {
  switch (dtype) {
    case at::kDouble:
      // 2^-53 a rounding: a few in an element, some hundred in a sum, whose order is each device's own.
      return made == Made::kElement ? 1e-14 : 1e-12;
    case at::kFloat:
      // 2^-24 likewise. No device may fall to TF32, which keeps 11 bits and would miss these by a factor of 50.
      return made == Made::kElement ? 1e-6 : 1e-5;
    default:
      return bfloat16_tolerance(made);
  }
}

}  // namespace fpdist::test
