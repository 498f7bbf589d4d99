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
constexpr int64_t kElements = 16 << 20;  // of a temporary, float64: rows go through in parts
constexpr double kOut = -std::numeric_limits<double>::infinity();
constexpr double kNothing = -1e30;  // behind the last logit: a weight of 0, whose logarithm is a number

at::Tensor numbers(const std::vector<int64_t>& all, at::Device device) {
  const at::Tensor host = at::tensor(all, at::kLong);
  return device.is_cuda() ? host.pin_memory().to(device, /*non_blocking=*/true) : host;
}

/// The rows that draw, as float32 of whole blocks.
at::Tensor rows_of(const at::Tensor& logits, std::span<const RowDraw> draws) {
  std::vector<int64_t> row;
  bool is_run = true;
  for (const RowDraw& draw : draws) {
    is_run = is_run && (row.empty() || draw.row == row.back() + 1);
    row.push_back(draw.row);
  }
  const int64_t padding = (kBlock - logits.size(1) % kBlock) % kBlock;
  const at::Tensor own = is_run ? logits.narrow(0, row.front(), static_cast<int64_t>(row.size()))
                                : logits.index_select(0, numbers(row, logits.device()));
  return at::constant_pad_nd(own, {0, padding}, kNothing);  // a copy: penalties are put into it
}

at::Tensor in_blocks(const at::Tensor& rows) { return rows.view({rows.size(0), -1, kBlock}); }

/// Each row's running sums. Within blocks first: a scan of one long row alone runs in an order of the moment on a GPU.
at::Tensor running_sums(const at::Tensor& rows) {
  const at::Tensor inside = in_blocks(rows).cumsum(2);
  const at::Tensor block = inside.select(2, kBlock - 1).cpu();
  const at::Tensor before = (block.cumsum(1) - block).to(rows.device());
  return (inside + before.unsqueeze(2)).view(rows.sizes());
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

/// What of the rows comes to the CPU at once.
class OnHost {
 public:
  explicit OnHost(const std::vector<at::Tensor>& columns) : all_(at::cat(columns, 1).cpu()) {}
  std::span<const double> row(size_t i) const {
    return {all_.const_data_ptr<double>() + i * index(all_.size(1)), index(all_.size(1))};
  }

 private:
  const at::Tensor all_;
};

/// Of a row, on the CPU.
struct OfRow {
  double sum = 0, mean = 0, truncated = 0;
  Drawn drawn(int64_t token, double shifted) const {
    return {static_cast<int32_t>(token), shifted - std::log(sum), std::log(sum) - mean / sum, truncated};
  }
};
OfRow first_of(std::span<const double> row) {
  check(std::isfinite(row[0]), kNotFinite);
  return {row[0], row[1], row[2]};
}
constexpr size_t kOfRow = 3;

/// at_share of each row: what the blocks' weights come to goes to the CPU, and then of each row the block that its draw
/// falls into.
void draw_at_shares(const at::Tensor& of_row, const at::Tensor& weights, const at::Tensor& shifted,
                    std::span<const RowDraw> draws, std::vector<Drawn>& found) {
  const at::Tensor blocks = in_blocks(weights);
  const OnHost sums({of_row, blocks.sum(2)});
  std::vector<ShareBlock> share;
  std::vector<int64_t> flat;
  for (size_t i = 0; i < draws.size(); ++i) {
    share.push_back(block_at_share(sums.row(i).subspan(kOfRow), draws[i].u));
    flat.push_back(static_cast<int64_t>(i) * blocks.size(1) + static_cast<int64_t>(share.back().block));
  }
  const at::Tensor place = numbers(flat, weights.device());
  const auto chosen_of = [&](const at::Tensor& rows) { return rows.view({-1, kBlock}).index_select(0, place); };
  const OnHost chosen({chosen_of(weights), chosen_of(shifted)});
  for (size_t i = 0; i < draws.size(); ++i) {
    const OfRow own = first_of(sums.row(i));
    const std::span<const double> block = chosen.row(i).first(index(kBlock));
    int64_t here = place_in_block(block, share[i].left);
    while (here >= 0 && block[index(here)] == 0) --here;
    if (here >= 0) {
      found.push_back(
          own.drawn(static_cast<int64_t>(share[i].block) * kBlock + here, chosen.row(i)[index(kBlock + here)]));
      continue;
    }
    // Rounding has left something behind the last weight: that lies in an earlier block.
    const at::Tensor row = weights[static_cast<int64_t>(i)].cpu();
    const int32_t token = at_share({row.const_data_ptr<double>(), index(row.numel())}, draws[i].u);
    found.push_back(own.drawn(token, shifted[static_cast<int64_t>(i)][token].item<double>()));
  }
}

void draw_part(const at::Tensor& logits, std::span<const RowDraw> draws, const SamplingOptions& options,
               std::vector<Drawn>& found) {
  at::Tensor own = rows_of(logits, draws);
  const bool is_greedy = options.temperature == 0;
  at::Tensor shifted = own.to(at::kDouble);
  if (!is_greedy) shifted.mul_(1 / options.temperature);
  shifted.sub_(shifted.amax(1, true));
  const at::Tensor weights = shifted.exp(), sum = weights.sum(1, true), mean = (weights * shifted).sum(1, true);
  const auto of_row = [&](const at::Tensor& truncated) { return at::cat({sum, mean, truncated}, 1); };
  penalise(own, draws, options.repetition_penalty);
  if (is_greedy) {
    const at::Tensor token = own.argmax(1, /*keepdim=*/true);
    const OnHost all({of_row(at::zeros_like(sum)), token.to(at::kDouble), shifted.gather(1, token)});
    for (size_t i = 0; i < draws.size(); ++i) {
      const std::span<const double> row = all.row(i);
      found.push_back(first_of(row).drawn(static_cast<int64_t>(row[kOfRow]), row[kOfRow + 1]));
    }
  } else if (leaves_all(options)) {
    draw_at_shares(of_row(at::zeros_like(sum)), weights, shifted, draws, found);
  } else {
    const at::Tensor kept = kept_rows(own, options);
    const at::Tensor truncated = weights.masked_fill(kept != 0, 0).sum(1, true) / sum;
    draw_at_shares(of_row(truncated), kept, shifted, draws, found);
  }
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
