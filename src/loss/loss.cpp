#include "fpdist/loss/loss.hpp"

#include <array>

#include "src/core/index.hpp"
#include "src/loss/losses.hpp"

namespace fpdist::loss {
namespace {

template <typename... Known>
constexpr std::array<Function*, sizeof...(Known)> functions_of(List<Known...>) {
  return {&Known::kFunction...};
}
constexpr std::array kFunctions = functions_of(Losses());  // [specs()]

template <typename... Known>
constexpr std::array<LookFunction*, sizeof...(Known)> looks_of(List<Known...>) {
  return {Known::kLook...};
}
constexpr std::array kLooks = looks_of(Losses());  // [specs()]

}  // namespace

LossFunction make_loss(Method method, const LossOptions& options) {
  const LossOptions known = resolved(method, options);
  const auto place = index(&spec_of(method, known) - specs().data());
  return [function = kFunctions.at(place), known](const Edges& edges, const plan::StepTotals& totals) {
    return function(edges, totals, known);
  };
}

Look make_look(Method method, const LossOptions& options) {
  const LossOptions known = resolved(method, options);
  if (needs_of(method, known).step == StepView::kNone) return {};
  const auto place = index(&spec_of(method, known) - specs().data());
  return [look = kLooks.at(place), known](const Edges& edges) { return look(edges, known); };
}

}  // namespace fpdist::loss
