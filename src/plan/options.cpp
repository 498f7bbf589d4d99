#include "fpdist/plan/options.hpp"

#include <array>
#include <utility>

#include "fpdist/core/names.hpp"

namespace fpdist::plan {
namespace {

constexpr std::array<std::pair<Schedule, std::string_view>, 3> kSchedules{
    {{Schedule::k1F1B, "1f1b"}, {Schedule::kInterleaved, "interleaved"}, {Schedule::kZeroBubble, "zb-h1"}}};
constexpr std::array<std::pair<CpMethod, std::string_view>, 4> kCpMethods{{{CpMethod::kAuto, "auto"},
                                                                           {CpMethod::kRing, "ring"},
                                                                           {CpMethod::kGroupCast, "groupcast"},
                                                                           {CpMethod::kUlysses, "ulysses"}}};

}  // namespace

std::string_view name_of(Schedule schedule) { return find_name(kSchedules, schedule); }
Schedule schedule_from_name(std::string_view name) { return find_value(kSchedules, "schedule", name); }
std::string_view name_of(CpMethod method) { return find_name(kCpMethods, method); }
CpMethod cp_method_from_name(std::string_view name) { return find_value(kCpMethods, "cp_method", name); }

}  // namespace fpdist::plan
