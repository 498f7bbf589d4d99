#pragma once
// comm: whether a job that has failed can end as one that has not.

#include <chrono>

namespace fpdist::comm {

/// Collective over the job's processes, and only where no rank is in another call any more: whether all of them have
/// come here within `patience`. Then each may leave by itself, MPI finalized; otherwise somebody has to end the job.
bool all_have_come(std::chrono::milliseconds patience);

}  // namespace fpdist::comm
