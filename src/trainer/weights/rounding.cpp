#include "src/trainer/weights/rounding.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "fpdist/core/error.hpp"

namespace fpdist::trainer {
namespace {

constexpr int64_t kMostSampled = 1 << 14;  // of a piece: the share is known to a percent
constexpr double kWorthAWord = 0.5;

}  // namespace

at::Tensor sample_of(const at::Tensor& piece) {
  const int64_t apart = std::max<int64_t>(1, piece.numel() / kMostSampled);
  return piece.slice(0, 0, std::nullopt, apart);
}

at::Tensor moved_and_lost(const at::Tensor& first, const at::Tensor& now) {
  const at::Tensor moved = now.ne(first);
  const at::Tensor lost = moved.logical_and(now.to(at::kBFloat16).eq(first.to(at::kBFloat16)));
  return at::stack({moved.sum(), lost.sum()});
}

void warn_of_lost_updates(const Rounding& rounding, const std::string& directory, LogSink& log) {
  if (rounding.share() <= kWorthAWord) return;
  log.warning(text(directory, " is bfloat16, which rounds ", std::lround(100 * rounding.share()),
                   " % of the weights that training moved to where they began: their small updates are not in it; ",
                   "train.final_dtype: float32 exports the optimizer's float32 masters"));
}

}  // namespace fpdist::trainer
