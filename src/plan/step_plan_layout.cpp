// From a planned pack to the arrays that are computed with.

#include <cstddef>
#include <span>
#include <vector>

#include "fpdist/plan/step_plan.hpp"
#include "src/core/index.hpp"

namespace fpdist::plan {

prefix::TreeLayout lay_out(std::span<const data::Group> groups, const PackPlan& pack, bool share) {
  std::vector<prefix::PackMember> members;
  members.reserve(pack.member.size());
  for (const MemberRef& ref : pack.member) {
    const data::Group& group = groups[index(ref.group)];
    members.push_back({group.id, ref.index, &group.sample[index(ref.index)]});
  }
  return prefix::make_layout(members, share);
}

}  // namespace fpdist::plan
