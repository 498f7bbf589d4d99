#include "fpdist/plan/options.hpp"

#include <array>
#include <utility>

#include "src/core/key.hpp"
#include "src/core/names.hpp"

namespace fpdist::plan {
namespace {

constexpr std::array<std::pair<Schedule, std::string_view>, 3> kSchedules{
    {{Schedule::k1F1B, "1f1b"}, {Schedule::kInterleaved, "interleaved"}, {Schedule::kZeroBubble, "zb-h1"}}};
constexpr std::array<std::pair<CpMethod, std::string_view>, 4> kCpMethods{{{CpMethod::kAuto, "auto"},
                                                                           {CpMethod::kRing, "ring"},
                                                                           {CpMethod::kGroupCast, "groupcast"},
                                                                           {CpMethod::kUlysses, "ulysses"}}};

constexpr Valid kDegree{.values = ">= 1 or -1",
                        .must = "1 or more, or -1 for the rest of the ranks",
                        .accepts = [](double x) { return x == -1 || x >= 1; }};
constexpr Valid kOrChosen = kFromZero.saying("0 (the planner chooses) or more");

}  // namespace

std::string_view name_of(Schedule schedule) { return find_name(kSchedules, schedule); }
Schedule schedule_from_name(std::string_view name) { return find_value(kSchedules, "schedule", name); }
std::string_view name_of(CpMethod method) { return find_name(kCpMethods, method); }
CpMethod cp_method_from_name(std::string_view name) { return find_value(kCpMethods, "cp_method", name); }

std::span<const Key> ParallelOptions::keys() {
  using Options = ParallelOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(dp, "data-parallel ranks; -1: the rest", kDegree),
      FPDIST_KEY(pp, "pipeline stages", kDegree),
      FPDIST_KEY(cp, "context-parallel ranks: they share the rows of a pack", kDegree),
      FPDIST_KEY(tp, "tensor-parallel ranks, sequence parallel between the linears", kDegree),
      FPDIST_NAMED_KEY(schedule, "order of a pipeline's forwards and backwards", kSchedules),
      FPDIST_KEY(virtual_stages, "interleaved: runs of layers that each pipeline rank holds", kFromOne),
      FPDIST_KEY(layers, "layers of each of the pp * virtual_stages runs; empty: by cost",
                 Valid{.values = "one number a run"}),
      FPDIST_NAMED_KEY(cp_method, "how keys reach the queries of other ranks", kCpMethods),
      FPDIST_KEY(ulysses, "cp ranks that exchange heads instead of keys; 0: chosen for every pack", kOrChosen),
      FPDIST_KEY(cp_chunk, "most rows in a context-parallel chunk", kFromOne)};
  return kKeys;
}

std::span<const Key> PackOptions::keys() {
  using Options = PackOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(max_tokens, "most rows in one pack (one micro-batch)", kFromOne),
      FPDIST_KEY(share_prefix, "compute shared prefixes once; false lays every sample out alone"),
      FPDIST_KEY(slices, "slices in which a pack goes through the pipeline; 0: the planner chooses, 1: whole",
                 kOrChosen),
      FPDIST_KEY(max_in_flight, "most rows in flight on a pipeline stage; 0: what whole packs of max_tokens need",
                 kFromZero.saying("0 (what whole packs need) or more")),
      FPDIST_KEY(verify_steps, "run the first n steps shared and unshared and stop if they disagree", kFromZero)};
  return kKeys;
}

std::span<const Key> PlanOptions::keys() {
  using Options = PlanOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(costs, "cost file of this model, e.g. the costs.yaml of a calibrated run; empty: by FLOPs"),
      FPDIST_KEY(calibrate_steps,
                 "time the first n steps, fit costs to them (output_dir/costs.yaml) and plan with these; 0: never, "
                 "plans repeat bit for bit",
                 kFromZero)};
  return kKeys;
}

}  // namespace fpdist::plan
