#include "src/plan/pack/draft.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::plan {

int64_t PackDraft::rows() const {
  int64_t rows = 0;
  for (const Amount& one : work) rows += one.rows;
  return rows;
}

int longest(const ReplicaDraft& draft) {
  int most = 1;
  for (const PackDraft& pack : draft.pack) most = std::max(most, pack.slices());
  return most;
}

void Pricer::price(PackDraft& pack) {
  pack.work.clear();
  pack.cost.clear();
  slicer_.cut(pack.sample, pack.ends, pack.work);
  // What laying out, walking samples and finding ends takes, in simulated operations of about 4 ns.
  effort_ += static_cast<int64_t>(50 + 8 * pack.sample.size() + 40 * pack.ends.size());
  for (const Amount& work : pack.work) pack.cost.push_back(unit_cost(problem_.costs, work));
}

PipelineShape Pricer::shape(const ReplicaDraft& draft) const {
  PipelineShape shape{problem_.schedule, problem_.stages, problem_.runs, {}, draft.window};
  for (const PackDraft& pack : draft.pack) shape.slices.push_back(pack.slices());
  return shape;
}

Program& Pricer::program(const ReplicaDraft& draft) {
  constexpr size_t kMostPrograms = 32;  // a search comes back to few shapes: 4 to 128 make no difference of 0.02 %
  key_.assign(1, draft.window);
  for (const PackDraft& pack : draft.pack) key_.push_back(pack.slices());
  const auto found = program_.find(key_);
  if (found != program_.end()) return found->second;
  if (program_.size() == kMostPrograms) program_.clear();
  Program& made = program_.emplace(key_, Program(shape(draft))).first->second;
  effort_ += static_cast<int64_t>(4 * made.size());  // to make one takes as long as to run it four times
  return made;
}

int64_t Pricer::makespan(const ReplicaDraft& draft, int64_t most) {
  units_.clear();
  for (const PackDraft& pack : draft.pack) {
    const bool has_empty_slice = pack.slices() > 1 && pack.rows() < pack.slices();
    if (has_empty_slice) return kNever;
    units_.insert(units_.end(), pack.cost.begin(), pack.cost.end());
  }
  if (problem_.schedule == Schedule::kInterleaved && units_.size() % index(problem_.stages) != 0) return kNever;
  Program& wanted = program(draft);
  effort_ += static_cast<int64_t>(wanted.size());
  const int64_t makespan = wanted.makespan(units_, problem_.layers);
  if (makespan > most) return kNever;
  const int64_t whole_packs = problem_.stages * problem_.most_rows;
  const bool may_overflow =
      draft.window > 1 || problem_.schedule == Schedule::kInterleaved || problem_.most_in_flight < whole_packs;
  if (!may_overflow) return makespan;
  const int64_t peak = wanted.peak_rows(units_);
  if (peak <= problem_.most_in_flight) return makespan;
  rows_needed_ = std::min(rows_needed_, peak);
  return kNever;
}

}  // namespace fpdist::plan
