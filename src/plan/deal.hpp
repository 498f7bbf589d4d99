#pragma once
// plan: which samples stay together, and which replica gets which.

#include <cstdint>
#include <vector>

#include "fpdist/plan/length_tree.hpp"
#include "fpdist/plan/pipeline_plan.hpp"
#include "src/plan/draft.hpp"

namespace fpdist::plan {

/// [samples] the first sample of its atom: what no pack boundary may go through.
std::vector<int32_t> atoms_of(const LengthTree& tree, Atomic atomic);

/// [samples] clusters: lines, and where a line is more than a replica's fair share, the subtrees below its root, and so
/// on. An atom is never opened.
std::vector<int32_t> clusters_of(const LengthTree& tree, const StageCosts& costs, int replicas,
                                 const std::vector<int32_t>& atom_of);

/// Samples by label, in order; equal labels must be neighbours.
std::vector<std::vector<int32_t>> by_label(const std::vector<int32_t>& label);

/// [replicas] samples. Clusters by cost, longest first; then, where they may be torn, single samples to even out what
/// is left. A cluster that no pack holds is dealt in pieces that fit.
std::vector<std::vector<int32_t>> deal(const Problem& problem, int replicas);

}  // namespace fpdist::plan
