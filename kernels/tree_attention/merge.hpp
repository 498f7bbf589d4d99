#pragma once
// tree_attention: how attention over disjoint key sets becomes attention over all of them: ring rounds, resident
// slices, the levels of a pack. Exact, because a row's output is a mean of values weighted by exp(score), and its lse
// says what the weights added up to.

#include "fpdist/kernels/attention.hpp"

namespace fpdist::kernels {

/// Folds another part of the same queries into `whole`, in place: out = sum_i out_i exp(lse_i - lse), lse = the log of
/// the sum of exp(lse_i). Both in the accumulation dtype; out [...,D] and lse [...] over any leading dims. The order of
/// the parts fixes the bits. Throws ShapeError.
void merge_attention(AttentionOutput& whole, const AttentionOutput& part);

}  // namespace fpdist::kernels
