#pragma once
// keyed_dropout: dropout whose mask is a pure function of each row's key, so that rows of one key lose the same
// elements wherever they are computed, and however often: nothing is kept for the backward, which is the same call on
// the gradient. Element (r, c) of x [T,W] stays where the c-th number of splitmix64's sequence from mixed(key[r] ^
// stream) lies under 1 - p of its range, and is then x / (1 - p), formed in the accumulation dtype and rounded once;
// else 0. Sources: Srivastava et al., "Dropout" (2014); Steele et al. (OOPSLA 2014).

#include <ATen/core/Tensor.h>

namespace fpdist::kernels {

/// key [T] int64; `stream` tells masks of equal keys apart; 0 <= p < 1; `first_column`: which of the whole row's
/// elements x's first is, where x is a slice of its columns.
at::Tensor keyed_dropout(const at::Tensor& x, const at::Tensor& key, int64_t stream, double p, int64_t first_column);

/// Throws ShapeError unless the arguments fit together; the same on every device, reading no element.
void check_keyed_dropout(const at::Tensor& x, const at::Tensor& key, double p);

/// An element stays where its number's upper 53 bits lie under this.
int64_t keyed_dropout_bound(double p);

}  // namespace fpdist::kernels
