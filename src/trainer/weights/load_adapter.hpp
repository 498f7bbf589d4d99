#pragma once
// trainer (private): the adapter that a run goes on from (adapter.path).

#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/core/head.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::trainer {

/// Throws ModelFileError, naming the first tensor that is missing, of another shape or of no use, unless the directory
/// holds the adapter of `model`. A score head may be missing.
void check_is_adapter_of(const arch::Model& model, Head head, const checkpoint::HfDirectory& adapter);

/// The parameter's slice of the adapter's tensor, or of a score head that lies beside it, into `destination`; false
/// where the directory has none.
bool read_from_adapter(const arch::Model& model, const checkpoint::HfDirectory& adapter,
                       const ops::Parameter& parameter, at::Tensor& destination);

}  // namespace fpdist::trainer
