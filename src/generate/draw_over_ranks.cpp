#include "src/generate/draw_over_ranks.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "fpdist/core/error.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/core/index.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::generate {
namespace {

constexpr int64_t kBlock = kShareBlock;
constexpr int64_t kElements = 8 << 20;  // of a temporary, float64: rows go through in parts

/// Which ranks hold which tokens, in blocks of the whole vocabulary: one that lies across a border is two pieces.
struct Parts {
  Parts(int64_t vocabulary, const comm::Communicator& tp) : count(parallel::split_evenly(vocabulary, tp.size())) {
    for (const int64_t here : count) {
      const int64_t at = begin.empty() ? 0 : begin.back() + count[begin.size() - 1];
      begin.push_back(at), pieces.push_back((at % kBlock + here + kBlock - 1) / kBlock);
    }
    own = index(tp.rank());
  }
  size_t owner(int64_t token) const {
    return index(std::upper_bound(begin.begin(), begin.end(), token) - begin.begin()) - 1;
  }

  std::vector<int64_t> count, begin, pieces;  ///< [ranks]
  size_t own = 0;
};

/// Rows of this rank's part, and what all know of each.
struct RowParts {
  at::Tensor logits;         ///< [D,V_r] float32
  at::Tensor shifted;        ///< [D,V_r] float64, over the temperature, less the greatest of all
  at::Tensor blocks;         ///< [D,pieces,1024] their exponentials
  std::vector<double> sum;   ///< [D] of all weights
  std::vector<double> mean;  ///< [D] of all weights times shifted logits
  at::Tensor pieces;         ///< [D,pieces of all] sums, on the CPU
};

at::Tensor on_cpu(const at::Tensor& all) { return all.to(at::kCPU).contiguous(); }

RowParts row_parts(const at::Tensor& logits, std::span<const RowDraw> draws, double temperature, const Parts& parts,
                   comm::Communicator& tp) {
  RowParts rows;
  std::vector<int64_t> row;
  for (const RowDraw& draw : draws) row.push_back(draw.row);
  rows.logits = logits.index_select(0, at::tensor(row, at::kLong).to(logits.device()));
  rows.shifted = rows.logits.to(at::kDouble);
  if (temperature != 0) rows.shifted = rows.shifted * (1 / temperature);
  at::Tensor most = rows.shifted.amax(1);
  tp.all_reduce(most, comm::ReduceOp::kMax);
  rows.shifted = rows.shifted - most.unsqueeze(1);
  const at::Tensor weights = rows.shifted.exp();
  const int64_t ahead = parts.begin[parts.own] % kBlock, pieces = parts.pieces[parts.own];
  rows.blocks = at::constant_pad_nd(weights, {ahead, pieces * kBlock - ahead - weights.size(1)})
                    .view({weights.size(0), pieces, kBlock});
  const at::Tensor own = at::cat({rows.blocks.sum(2), (weights * rows.shifted).sum(1, true)}, 1).t().contiguous();
  std::vector<int64_t> counts;
  for (const int64_t here : parts.pieces) counts.push_back(here + 1);
  const at::Tensor all = on_cpu(parallel::gather_rows(own, tp, counts).t());
  std::vector<at::Tensor> sums;
  at::Tensor mean = at::zeros({all.size(0)}, at::kDouble);
  int64_t at = 0;
  for (const int64_t here : parts.pieces) {
    sums.push_back(all.narrow(1, at, here)), mean += all.select(1, at + here);
    at += here + 1;
  }
  rows.pieces = at::cat(sums, 1).contiguous();
  const auto* next = rows.pieces.const_data_ptr<double>();
  for (int64_t d = 0; d < all.size(0); ++d, next += rows.pieces.size(1)) {
    rows.sum.push_back(std::accumulate(next, next + rows.pieces.size(1), 0.0));
    rows.mean.push_back(mean[d].item<double>());
    check(std::isfinite(rows.sum.back()), kNotFinite);
  }
  return rows;
}

/// Those of a history that this rank has, counted from its first.
std::vector<int32_t> own_history(std::span<const int32_t> history, const Parts& parts) {
  std::vector<int32_t> own;
  for (const int32_t token : history)
    if (parts.owner(token) == parts.own) own.push_back(token - static_cast<int32_t>(parts.begin[parts.own]));
  return own;
}

/// This rank's logits of a draw, on the CPU.
std::span<const float> own_row(const at::Tensor& logits, size_t draw) {
  const auto width = index(logits.size(1));
  return {logits.const_data_ptr<float>() + draw * width, width};
}

/// The likeliest of each, the first of equal ones.
std::vector<int64_t> likeliest(const RowParts& rows, std::span<const RowDraw> draws, const SamplingOptions& options,
                               const Parts& parts, comm::Communicator& tp) {
  const at::Tensor own = on_cpu(rows.logits);
  std::vector<double> mine;  // greatest logits, then their tokens
  for (size_t d = 0; d < draws.size(); ++d) {
    const std::vector<float> left =
        penalised(own_row(own, d), own_history(draws[d].history, parts), options.repetition_penalty);
    const auto best = std::max_element(left.begin(), left.end());
    mine.push_back(*best), mine.push_back(static_cast<double>(parts.begin[parts.own] + (best - left.begin())));
  }
  const at::Tensor all = comm::gather_parts(at::tensor(mine, at::kDouble), tp).all;
  const auto* const number = all.const_data_ptr<double>();
  std::vector<int64_t> token;
  for (size_t d = 0; d < draws.size(); ++d) {
    const double* best = number + 2 * d;
    for (size_t rank = 1; rank < parts.count.size(); ++rank)
      if (const double* const one = number + 2 * (rank * draws.size() + d); one[0] > best[0]) best = one;
    token.push_back(static_cast<int64_t>(best[1]));
  }
  return token;
}

/// Where each draw falls among all weights: known to the rank that has the token, -1 on others.
std::vector<int64_t> at_shares(const RowParts& rows, std::span<const RowDraw> draws, const Parts& parts) {
  std::vector<int64_t> token(draws.size(), -1);
  const auto count = index(rows.pieces.size(1));
  for (size_t d = 0; d < draws.size(); ++d) {
    const std::span<const double> sums(rows.pieces.const_data_ptr<double>() + d * count, count);
    ShareBlock share = block_at_share(sums, draws[d].u);
    while (sums[share.block] == 0) --share.block, share.left = INFINITY;  // rounding: the last one that weighs anything
    size_t rank = 0;
    auto piece = static_cast<int64_t>(share.block);
    while (piece >= parts.pieces[rank]) piece -= parts.pieces[rank++];
    if (rank != parts.own) continue;
    const at::Tensor block = on_cpu(rows.blocks[static_cast<int64_t>(d)][piece]);
    const auto* const weight = block.const_data_ptr<double>();
    int64_t place = place_in_block({weight, index(kBlock)}, share.left);
    while (weight[place] == 0) --place;
    token[d] = (parts.begin[rank] / kBlock + piece) * kBlock + place;
  }
  return token;
}

/// A token that may be left by the filters.
struct LikelyToken {
  int64_t token = 0;
  float logit = 0;    ///< as the filters see it
  double weight = 0;  ///< without them
};

/// Of this rank's part: none of the others is left, whatever the other parts have. `whole`: the sum of all ranks'
/// weights by `left` less `most`.
std::vector<size_t> own_candidates(const std::vector<float>& left, double most, double whole,
                                   const SamplingOptions& options) {
  std::vector<size_t> order(left.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return left[a] > left[b]; });
  double larger = 0;
  size_t some = 0;
  for (double here = 0; some < order.size(); ++some) {
    const float logit = left[order[some]];
    const bool is_tie = some > 0 && logit == left[order[some - 1]];
    if (!is_tie) larger = here;
    if (!is_tie && options.top_k > 0 && some >= index(options.top_k)) break;
    // Rounding of other sums must not take what they would leave.
    if (!is_tie && options.top_k == 0 && larger > options.top_p * whole * (1 + 1e-9)) break;
    if (std::exp(logit - most) < options.min_p * (1 - 1e-9)) break;
    here += std::exp(logit - most);
  }
  order.resize(some);
  std::sort(order.begin(), order.end());
  return order;
}

/// [D] all ranks' candidates, by token.
std::vector<std::vector<LikelyToken>> candidates(const RowParts& rows, const std::vector<std::vector<float>>& left,
                                                 const std::vector<double>& most, const std::vector<double>& whole,
                                                 const SamplingOptions& options, const Parts& parts,
                                                 comm::Communicator& tp) {
  const at::Tensor own = on_cpu(rows.shifted);
  std::vector<double> mine;  // of each draw how many, and these
  for (size_t d = 0; d < left.size(); ++d) {
    const std::vector<size_t> some = own_candidates(left[d], most[d], whole[d], options);
    const double* const shifted = own.const_data_ptr<double>() + d * index(own.size(1));
    mine.push_back(static_cast<double>(some.size()));
    for (const size_t at : some) {
      mine.push_back(static_cast<double>(parts.begin[parts.own]) + static_cast<double>(at));
      mine.push_back(left[d][at]), mine.push_back(std::exp(shifted[at]));
    }
  }
  const at::Tensor gathered = comm::gather_parts(at::tensor(mine, at::kDouble), tp).all;
  const auto* next = gathered.const_data_ptr<double>();
  std::vector<std::vector<LikelyToken>> all(left.size());
  for (size_t rank = 0; rank < parts.count.size(); ++rank)
    for (std::vector<LikelyToken>& of_draw : all)
      for (auto count = static_cast<int64_t>(*next++); count > 0; --count, next += 3)
        of_draw.push_back({static_cast<int64_t>(next[0]), static_cast<float>(next[1]), next[2]});
  return all;
}

/// at_share of the candidates, whose weights are those that the filters leave.
int64_t at_share(const std::vector<LikelyToken>& some, const std::vector<double>& weights, double u) {
  std::vector<double> sums(index(some.back().token / kBlock) + 1);
  std::vector<size_t> end(sums.size());
  for (size_t i = 0; i < some.size(); ++i) {
    const auto block = index(some[i].token / kBlock);
    sums[block] += weights[i], end[block] = i + 1;
  }
  ShareBlock share = block_at_share(sums, u);
  while (sums[share.block] == 0) --share.block, share.left = INFINITY;
  size_t begin = 0;
  for (size_t block = 0; block < share.block; ++block) begin = std::max(begin, end[block]);
  size_t at = begin + index(place_in_block(std::span(weights).subspan(begin, end[share.block] - begin), share.left));
  while (weights[at] == 0) --at;
  return some[at].token;
}

/// Of logits that a penalty has changed and nothing has left out: as at_shares.
std::vector<int64_t> penalised_shares(const std::vector<std::vector<float>>& left, std::span<const RowDraw> draws,
                                      const Parts& parts, comm::Communicator& tp) {
  at::Tensor all = at::empty({std::ssize(left), parts.count[parts.own]}, at::kFloat);
  std::vector<RowDraw> each(draws.begin(), draws.end());
  for (size_t d = 0; d < left.size(); ++d) {
    std::copy(left[d].begin(), left[d].end(), all.mutable_data_ptr<float>() + d * left[d].size());
    each[d].row = static_cast<int64_t>(d);
  }
  return at_shares(row_parts(all, each, /*temperature=*/0, parts, tp), each, parts);
}

/// Tokens that filters leave, known to all or, where they leave all, to who has them; `truncated` [D] gets what they
/// took.
std::vector<int64_t> filtered(const RowParts& rows, std::span<const RowDraw> draws, const SamplingOptions& options,
                              const Parts& parts, comm::Communicator& tp, std::vector<double>& truncated) {
  const at::Tensor own = on_cpu(rows.logits);
  std::vector<std::vector<float>> left;
  std::vector<double> most, whole;
  for (size_t d = 0; d < draws.size(); ++d) {
    left.push_back(at_temperature(own_row(own, d), own_history(draws[d].history, parts), options));
    most.push_back(*std::max_element(left[d].begin(), left[d].end()));
  }
  if (options.top_k == 0 && options.top_p >= 1 && options.min_p == 0) return penalised_shares(left, draws, parts, tp);
  const auto of_all = [&](std::vector<double>& numbers, comm::ReduceOp op) {
    at::Tensor all = at::tensor(numbers, at::kDouble);
    tp.all_reduce(all, op);
    numbers.assign(all.const_data_ptr<double>(), all.const_data_ptr<double>() + all.numel());
  };
  of_all(most, comm::ReduceOp::kMax);
  for (size_t d = 0; d < draws.size(); ++d) {
    double& sum = whole.emplace_back();
    for (const float logit : left[d]) sum += std::exp(logit - most[d]);
  }
  of_all(whole, comm::ReduceOp::kSum);
  std::vector<int64_t> token;
  const auto all = candidates(rows, left, most, whole, options, parts, tp);
  for (size_t d = 0; d < draws.size(); ++d) {
    std::vector<float> logits;
    double rest = whole[d], kept = 0;
    for (const LikelyToken& one : all[d]) logits.push_back(one.logit), rest -= std::exp(one.logit - most[d]);
    const bool is_whole =
        options.top_k > 0 || static_cast<int64_t>(all[d].size()) == parts.begin.back() + parts.count.back();
    const std::vector<double> weights = filtered_weights(logits, options, is_whole ? 0 : std::max(0.0, rest));
    for (size_t i = 0; i < weights.size(); ++i) kept += weights[i] > 0 ? all[d][i].weight : 0;
    truncated[d] = std::max(0.0, rows.sum[d] - kept) / rows.sum[d];
    token.push_back(at_share(all[d], weights, draws[d].u));
  }
  return token;
}

void draw_some(const at::Tensor& logits, std::span<const RowDraw> draws, const SamplingOptions& options,
               const Parts& parts, comm::Communicator& tp, std::vector<Drawn>& found) {
  const RowParts rows = row_parts(logits, draws, options.temperature, parts, tp);
  std::vector<double> truncated(draws.size(), 0.0);
  const std::vector<int64_t> token = options.temperature == 0 ? likeliest(rows, draws, options, parts, tp)
                                     : leaves_all(options)    ? at_shares(rows, draws, parts)
                                                              : filtered(rows, draws, options, parts, tp, truncated);
  at::Tensor known = at::zeros({2, static_cast<int64_t>(draws.size())}, at::kDouble);  // by who has the token
  for (size_t d = 0; d < draws.size(); ++d) {
    if (token[d] < 0 || parts.owner(token[d]) != parts.own) continue;
    const auto row = static_cast<int64_t>(d);
    known[0][row] = static_cast<double>(token[d]);
    known[1][row] = rows.shifted[row][token[d] - parts.begin[parts.own]].item<double>();
  }
  tp.all_reduce(known);
  const auto* const numbers = known.const_data_ptr<double>();
  for (size_t d = 0; d < draws.size(); ++d) {
    const double log_sum = std::log(rows.sum[d]);
    found.push_back({.token = static_cast<int32_t>(numbers[d]),
                     .logp = numbers[draws.size() + d] - log_sum,
                     .entropy = log_sum - rows.mean[d] / rows.sum[d],
                     .truncated = truncated[d]});
  }
}

}  // namespace

std::vector<Drawn> draw_over_ranks(const at::Tensor& logits, std::span<const RowDraw> draws,
                                   const SamplingOptions& options, int64_t vocabulary, comm::Communicator& tp) {
  const Parts parts(vocabulary, tp);
  std::vector<Drawn> found;
  const size_t most = index(std::max<int64_t>(1, kElements / parts.count.front()));
  for (size_t begin = 0; begin < draws.size(); begin += most)
    draw_some(logits, draws.subspan(begin, std::min(most, draws.size() - begin)), options, parts, tp, found);
  return found;
}

}  // namespace fpdist::generate
