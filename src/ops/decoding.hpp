#pragma once
// ops: what attention of a step that decodes needs on a GPU, as prepare_attention makes it for training.

#include <memory>
#include <vector>

#include "fpdist/ops/attention_calls.hpp"

namespace fpdist::kernels {
struct KeyRun;
}

namespace fpdist::ops {

/// Keys that several steps have in common: runs of one node's each.
using KeyRuns = std::vector<kernels::KeyRun>;
/// Of k_row and k_end as AttentionMask has them. Throws ShapeError for rows that do not ascend.
std::shared_ptr<const KeyRuns> runs_of_keys(const at::Tensor& k_row, const at::Tensor& k_end);

/// The calls of the forward under `mask`, whose keys `runs` are of: nothing here takes time by the number of keys.
/// Where no query sees another one's key, kernels of their own take them (kernels/tree_attention/decode). Null as
/// prepare_attention's.
AttentionCallsPtr prepare_decoding(const AttentionMask& mask, const KeyRuns& runs, at::Device device);

}  // namespace fpdist::ops
