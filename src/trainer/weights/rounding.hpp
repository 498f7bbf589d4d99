#pragma once
// trainer (private): what bfloat16 leaves of small updates. A weight keeps 8 bits: a step of less than 1/512 of it is
// there in the master and not in an export.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "fpdist/core/log.hpp"

namespace fpdist::trainer {

/// Weights that training moved, and those of them that bfloat16 rounds to where they began.
struct Rounding {
  int64_t moved = 0, lost = 0;
  double share() const { return moved == 0 ? 0.0 : static_cast<double>(lost) / static_cast<double>(moved); }
};

/// A view of some elements, evenly apart; of all where there are few.
at::Tensor sample_of(const at::Tensor& piece);

/// [2] int64: elements of `now` that are not those of `first`, and the part of them that bfloat16 cannot tell apart.
at::Tensor moved_and_lost(const at::Tensor& first, const at::Tensor& now);

/// `log` hears where more than half of an export's updates are lost.
void warn_of_lost_updates(const Rounding& rounding, const std::string& directory, LogSink& log);

}  // namespace fpdist::trainer
