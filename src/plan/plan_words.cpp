#include "src/plan/plan_words.hpp"

#include <bit>
#include <concepts>
#include <type_traits>

#include "fpdist/core/error.hpp"
#include "src/core/integers.hpp"
#include "src/core/mix.hpp"

namespace fpdist::plan {
namespace {

/// Order-dependent mixing of every field.
class Hash {
 public:
  void add(int64_t value) { state_ = std::rotl(mixed(state_ + static_cast<uint64_t>(value) + kGolden), 17); }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0;
};

}  // namespace

template <typename Archive, SameButConst<MemberRef> Member>
void fields(Archive& archive, Member& member) {
  archive(member.group, member.index);
}

template <typename Archive, SameButConst<PackPlan> Pack>
void fields(Archive& archive, Pack& pack) {
  archive(pack.member, pack.rows, pack.pairs, pack.edges, pack.scores, pack.cost, pack.slice_end);
}

template <typename Archive, SameButConst<StepTotals> Totals>
void fields(Archive& archive, Totals& t) {
  archive(t.groups, t.samples, t.edges, t.samples_with_edges, t.first_edges, t.wanted, t.tokens_logical,
          t.tokens_computed, t.tokens_unique);
}

template <typename Archive, SameButConst<StepPlan> Plan>
void fields(Archive& archive, Plan& plan) {
  archive(plan.replica, plan.totals, plan.schedule, plan.stages, plan.runs, plan.window, plan.hash);
}

uint64_t hash_of(const StepPlan& plan, const ParallelOptions& parallel) {
  Hash hash;
  for (const int64_t field :
       {static_cast<int64_t>(plan.schedule), int64_t{plan.stages}, int64_t{plan.runs}, int64_t{parallel.cp},
        static_cast<int64_t>(parallel.cp_method), int64_t{parallel.ulysses}, parallel.cp_chunk})
    hash.add(field);
  hash.add(static_cast<int64_t>(plan.replica.size()));
  for (const int window : plan.window) hash.add(window);
  for (const std::vector<PackPlan>& packs : plan.replica) {
    hash.add(static_cast<int64_t>(packs.size()));
    for (const PackPlan& pack : packs) {
      for (const int64_t field : {static_cast<int64_t>(pack.member.size()), pack.rows, pack.pairs, pack.edges,
                                  pack.scores, pack.cost, static_cast<int64_t>(pack.slice_end.size())})
        hash.add(field);
      for (const int32_t end : pack.slice_end) hash.add(end);
      for (const MemberRef& member : pack.member) hash.add(member.group), hash.add(member.index);
    }
  }
  const StepTotals& t = plan.totals;
  for (const int64_t field : {t.groups, t.samples, t.edges, t.samples_with_edges, t.tokens_logical, t.tokens_computed})
    hash.add(field);
  return hash.value();
}

void write_plan(const StepPlan& plan, IntegerWriter& to) { to(plan); }

StepPlan read_plan(IntegerReader& from, const ParallelOptions& parallel) {
  StepPlan plan;
  from(plan);
  check<CommError>(hash_of(plan, parallel) == plan.hash, "a step's plan is not what its hash says: it has changed on ",
                   "its way from the rank that made it");
  return plan;
}

}  // namespace fpdist::plan
