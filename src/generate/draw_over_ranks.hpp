#pragma once
// generate, private: tokens of logits of which each rank of tp has a part of the vocabulary. The parts stay where they
// are: ranks tell each other the greatest logit of a row, the sums of its blocks of 1,024 weights, and what those who
// hold the token know of it; with filters also the few tokens that may be left, with their logits.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "src/generate/draw_rows.hpp"

namespace fpdist::generate {

/// draw_rows of logits [R,V] of which this rank has `logits` [R,V_r], float32, by parallel::split_evenly: the same
/// tokens but where a draw falls between two within rounding, and on every rank the same. Collective over tp, with the
/// same draws. Throws Error on all ranks for logits that are not finite.
std::vector<Drawn> draw_over_ranks(const at::Tensor& logits, std::span<const RowDraw> draws,
                                   const SamplingOptions& options, int64_t vocabulary, comm::Communicator& tp);

}  // namespace fpdist::generate
