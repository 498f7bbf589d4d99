#pragma once
// plan: which samples stay together, and which replica gets which.

#include <cstdint>
#include <span>
#include <vector>

#include "src/plan/pack/draft.hpp"
#include "src/plan/pack/length_tree.hpp"
#include "src/plan/pack/pipeline_plan.hpp"

namespace fpdist::plan {

/// [samples] the first sample of its atom: what no pack boundary may go through.
std::vector<int32_t> atoms_of(const LengthTree& tree, Atomic atomic);

/// [samples] clusters: roots, and where a root with groups below it is more than a replica's fair share or than a pack
/// holds, the subtrees below it, and so on. An atom is never opened.
std::vector<int32_t> clusters_of(const LengthTree& tree, const StageCosts& costs, int replicas, int64_t most_rows,
                                 const std::vector<int32_t>& atom_of);

/// `samples` by label [all samples], those of one label in order, labels by their first sample.
std::vector<std::vector<int32_t>> by_label(const std::vector<int32_t>& label, std::span<const int32_t> samples);
std::vector<int32_t> all_samples(const LengthTree& tree);

/// [replicas] samples. Clusters by cost, longest first, whole or in bundles, whichever gets more even; then, where they
/// may be torn, single samples to even out what is left. A cluster that no pack holds is dealt in bundles that fit.
std::vector<std::vector<int32_t>> deal(const PackProblem& problem, int replicas);

}  // namespace fpdist::plan
