#pragma once
// Tests: which metrics a law about equal training speaks of, and how far they may be apart.

#include <string>
#include <vector>

#include "fpdist/data/sample.hpp"

namespace fpdist::test {

/// Names that depend on how the work was laid out or on the clock.
inline bool is_about_layout(const std::string& name) {
  for (const char* other : {"tokens_per_second", "tokens_computed", "sharing_ratio", "mfu", "exposed_communication"})
    if (name == other) return true;
  for (const char* ending : {"seconds", "bubble", "imbalance"})
    if (name.ends_with(ending)) return true;
  return name.starts_with("comm/");
}

/// Share of pairs whose two samples are the same: rounding alone decides which of them "wins".
inline double share_of_ties(const std::vector<data::Group>& groups) {
  double ties = 0;
  for (const data::Group& group : groups)
    ties += group.sample.size() == 2 && group.sample[0].token == group.sample[1].token;
  return ties / static_cast<double>(groups.size());
}

/// How far a metric may be off for ties alone.
inline double tie_tolerance(const std::string& name, double ties) {
  return name == "accuracy" || name == "ties" || name == "rewards/accuracies" ? ties : 0.0;
}

}  // namespace fpdist::test
