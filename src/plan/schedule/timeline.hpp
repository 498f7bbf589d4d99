#pragma once
// plan: what ran when, planned (simulated) or executed, for people and for Perfetto (ui.perfetto.dev).

#include <span>
#include <string>

#include "fpdist/plan/op.hpp"

namespace fpdist::plan {

struct TimelineEvent {
  int rank = 0;  ///< pipeline stage, or any rank number: one track each
  Op op;
  double begin = 0, end = 0;  ///< seconds from a common start
};

/// Events in Chrome's trace format: one track a rank, a slice an event; times in microseconds, three decimals.
std::string to_trace_json(std::span<const TimelineEvent> events);

/// Events for people, one line each, by begin, then rank: "0.001250 0.002500 stage 0 F3".
std::string to_text(std::span<const TimelineEvent> events);

}  // namespace fpdist::plan
