#include "src/generate/draw_rows.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::generate {
namespace {

constexpr int64_t kBlock = kShareBlock;
constexpr int64_t kElements = 8 << 20;  // of a temporary, float64: rows go through in parts
constexpr double kOut = -std::numeric_limits<double>::infinity();

at::Tensor numbers(const std::vector<int64_t>& all, at::Device device) { return at::tensor(all, at::kLong).to(device); }

/// [C,V] -> [C,V/1024,1024], zeros behind the last.
at::Tensor in_blocks(const at::Tensor& rows) {
  const int64_t vocabulary = rows.size(1), whole = (vocabulary + kBlock - 1) / kBlock * kBlock;
  return at::constant_pad_nd(rows, {0, whole - vocabulary}).view({rows.size(0), whole / kBlock, kBlock});
}

/// Each row's running sums. Within blocks first: a scan of one long row alone runs in an order of the moment on a GPU.
at::Tensor running_sums(const at::Tensor& rows) {
  const at::Tensor inside = in_blocks(rows).cumsum(2);
  const at::Tensor block = inside.select(2, kBlock - 1).cpu();
  const at::Tensor before = (block.cumsum(1) - block).to(rows.device());
  return (inside + before.unsqueeze(2)).view({rows.size(0), -1}).narrow(1, 0, rows.size(1));
}

void penalise(at::Tensor& logits, std::span<const RowDraw> draws, double penalty) {
  if (penalty == 1) return;
  std::vector<int64_t> at;
  for (size_t i = 0; i < draws.size(); ++i)  // once a token, however often it comes
    for (const int32_t token : std::set<int32_t>(draws[i].history.begin(), draws[i].history.end()))
      at.push_back(static_cast<int64_t>(i) * logits.size(1) + token);
  if (at.empty()) return;
  const at::Tensor place = numbers(at, logits.device()), old = logits.view(-1).index_select(0, place);
  const auto by = static_cast<float>(penalty);
  logits.view(-1).index_copy_(0, place, at::where(old < 0, old * by, old / by));
}

/// As kept_weights, of rows that penalise has seen.
at::Tensor kept_rows(at::Tensor left, const SamplingOptions& options) {
  left = left / static_cast<float>(options.temperature);
  if (options.top_k > 0 && options.top_k < left.size(1)) {
    const at::Tensor least = std::get<0>(left.topk(options.top_k, 1)).narrow(1, options.top_k - 1, 1);
    left = left.masked_fill(left < least, kOut);
  }
  const auto weights_of = [](const at::Tensor& rows) {
    const at::Tensor wide = rows.to(at::kDouble);
    return (wide - wide.amax(1, true)).exp();
  };
  if (options.top_p < 1) {
    const auto [sorted, order] = left.sort(/*stable=*/true, 1, /*descending=*/false);
    const at::Tensor weights = weights_of(sorted);
    at::Tensor goes = running_sums(weights) <= (1 - options.top_p) * weights.sum(1, true);
    goes.select(1, goes.size(1) - 1).fill_(false);
    left = left.masked_fill(at::zeros_like(goes).scatter(1, order, goes), kOut);
  }
  at::Tensor weights = weights_of(left);
  return options.min_p > 0 ? weights.masked_fill(weights < options.min_p, 0) : weights;
}

/// at_share of each row: the blocks' sums come to the CPU, and of each row the block that its draw falls into.
std::vector<int64_t> at_shares(const at::Tensor& weights, std::span<const RowDraw> draws) {
  const at::Tensor blocks = in_blocks(weights), sums = blocks.sum(2).cpu();
  std::vector<ShareBlock> share;
  std::vector<int64_t> flat;
  for (size_t i = 0; i < draws.size(); ++i) {
    share.push_back(
        block_at_share({sums.const_data_ptr<double>() + index(sums.size(1)) * i, index(sums.size(1))}, draws[i].u));
    flat.push_back(static_cast<int64_t>(index(sums.size(1)) * i + share.back().block));
  }
  const at::Tensor chosen =
      blocks.view({-1, kBlock}).index_select(0, numbers(flat, weights.device())).cpu().contiguous();
  std::vector<int64_t> token;
  for (size_t i = 0; i < draws.size(); ++i) {
    const std::span<const double> block(chosen.const_data_ptr<double>() + i * index(kBlock), index(kBlock));
    int64_t here = place_in_block(block, share[i].left);
    while (here >= 0 && block[index(here)] == 0) --here;
    if (here < 0) {  // rounding has left something behind the last weight: that lies in an earlier block
      const at::Tensor row = weights[static_cast<int64_t>(i)].cpu();
      token.push_back(at_share({row.const_data_ptr<double>(), index(row.numel())}, draws[i].u));
    } else {
      token.push_back(static_cast<int64_t>(share[i].block) * kBlock + here);
    }
  }
  return token;
}

void draw_part(const at::Tensor& logits, std::span<const RowDraw> draws, const SamplingOptions& options,
               std::vector<Drawn>& found) {
  std::vector<int64_t> row;
  for (const RowDraw& draw : draws) row.push_back(draw.row);
  at::Tensor own = logits.index_select(0, numbers(row, logits.device()));
  const bool is_greedy = options.temperature == 0;
  at::Tensor shifted = own.to(at::kDouble);
  if (!is_greedy) shifted = shifted * (1 / options.temperature);
  shifted = shifted - shifted.amax(1, true);
  const at::Tensor weights = shifted.exp(), sum = weights.sum(1), mean = (weights * shifted).sum(1);
  check(at::isfinite(sum).all().item<bool>(), kNotFinite);
  at::Tensor truncated = at::zeros_like(sum), token;
  penalise(own, draws, options.repetition_penalty);
  if (is_greedy) {
    token = own.argmax(1);
  } else if (leaves_all(options)) {
    token = numbers(at_shares(weights, draws), logits.device());
  } else {
    const at::Tensor kept = kept_rows(own, options);
    truncated = weights.masked_fill(kept != 0, 0).sum(1) / sum;
    token = numbers(at_shares(kept, draws), logits.device());
  }
  const at::Tensor logp = shifted.gather(1, token.unsqueeze(1)).squeeze(1) - sum.log();
  const at::Tensor all = at::stack({token.to(at::kDouble), logp, sum.log() - mean / sum, truncated}, 1).cpu();
  const auto* const at = all.const_data_ptr<double>();
  for (size_t i = 0; i < draws.size(); ++i)
    found.push_back({static_cast<int32_t>(at[4 * i]), at[4 * i + 1], at[4 * i + 2], at[4 * i + 3]});
}

}  // namespace

std::vector<Drawn> draw_rows(const at::Tensor& logits, std::span<const RowDraw> draws, const SamplingOptions& options) {
  std::vector<Drawn> found;
  const size_t most = index(std::max<int64_t>(1, kElements / logits.size(1)));
  for (size_t begin = 0; begin < draws.size(); begin += most)
    draw_part(logits, draws.subspan(begin, std::min(most, draws.size() - begin)), options, found);
  return found;
}

}  // namespace fpdist::generate
