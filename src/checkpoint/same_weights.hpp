#pragma once
// checkpoint: whether ranks that read slices of a model read the same model.

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/comm/communicator.hpp"

namespace fpdist::checkpoint {

/// Collective, after the ranks have read what they want. Throws ModelFileError, on every rank the same, unless every
/// byte that any rank has read is the byte at that place of rank 0's files: the tensors that differ, and the ranks.
///
/// Ranks that have the very same files open (one machine, one inode each) cannot differ: where all have, that costs an
/// exchange of 16 bytes. Else a rank with other files than rank 0's sums up what it has read, and the ranks with rank
/// 0's files share among them to sum up the same parts of theirs.
void check_same_weights(const HfDirectory& directory, comm::Communicator& world);

}  // namespace fpdist::checkpoint
