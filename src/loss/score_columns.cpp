#include "src/loss/score_columns.hpp"

#include <ATen/ops/stack.h>

#include <array>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/ops/segments.hpp"

namespace fpdist::loss {
namespace {

/// A column by its names here and there; without a need it is always there. Columns travel in this order.
struct NamedColumn {
  at::Tensor ScoreColumns::*of_score;
  at::Tensor Edges::*of_edge;
  bool Needs::*need;
};
constexpr std::array<NamedColumn, 7> kColumns{{{&ScoreColumns::logp, &Edges::logp, nullptr},
                                               {&ScoreColumns::entropy, &Edges::entropy, &Needs::entropy},
                                               {&ScoreColumns::correct, &Edges::correct, &Needs::correct},
                                               {&ScoreColumns::mean_logit, &Edges::mean_logit, &Needs::mean_logit},
                                               {&ScoreColumns::log_sum_sq, &Edges::log_sum_sq, &Needs::log_sum_sq},
                                               {&ScoreColumns::ref_logp, &Edges::ref_logp, &Needs::reference},
                                               {&ScoreColumns::base_kl, &Edges::base_kl, &Needs::base_kl}}};

}  // namespace

at::Tensor stack(const ScoreColumns& scores) {
  std::vector<at::Tensor> there;
  for (const NamedColumn& column : kColumns)
    if ((scores.*column.of_score).defined()) there.push_back((scores.*column.of_score).detach());
  return at::stack(there, 1);
}

ScoreColumns unstack(const at::Tensor& stacked, const Needs& needs) {
  ScoreColumns scores;
  int64_t next = 0;
  for (const NamedColumn& column : kColumns) {
    if (column.need != nullptr && !(needs.*column.need)) continue;
    check(next < stacked.size(1), "the head gave ", stacked.size(1), " columns, its loss needs more");
    scores.*column.of_score = stacked.select(1, next++);
  }
  check(next == stacked.size(1), "the head gave ", stacked.size(1), " columns, its loss needs ", next);
  return scores;
}

void give_to_edges(const ScoreColumns& scores, const at::Tensor& edge_score, Edges& edges) {
  std::vector<at::Tensor> plain;  // without gradients: side by side, picked at once
  for (const NamedColumn& column : kColumns) {
    const at::Tensor& own = scores.*column.of_score;
    if (!own.defined()) continue;
    if (own.requires_grad())
      edges.*column.of_edge = ops::pick_rows(own, edge_score);
    else
      plain.push_back(own);
  }
  if (plain.empty()) return;
  const at::Tensor picked = ops::pick_rows(at::stack(plain, 1), edge_score);
  int64_t next = 0;
  for (const NamedColumn& column : kColumns)
    if (const at::Tensor& own = scores.*column.of_score; own.defined() && !own.requires_grad())
      edges.*column.of_edge = picked.select(1, next++);
}

}  // namespace fpdist::loss
