#include "src/ops/batch_invariant.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <optional>

#include "fpdist/core/error.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/packed_weight.hpp"
#include "kernels/tree_attention/blocked/blocked_attention.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::ops {

static_assert(kInvariantPanel == kernels::kPanelKeys);

namespace {

constexpr int64_t kOutputs = 1024;  // of a part, at most

/// part(p) of `parts`, each by one thread.
template <typename Body>
void for_each_part(int64_t parts, const Body& part) {
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    const at::AutoDispatchBelowAutograd below;  // a thread has its own
    for (int64_t p = first; p < last; ++p) part(static_cast<size_t>(p));
  });
}

}  // namespace

bool has_invariant_attention(const at::Device& device, at::ScalarType dtype, int64_t head_size) {
  return device.is_cpu() && kernels::best_blocked_kernel(dtype, head_size) != nullptr;
}

at::Tensor invariant_attention(const kernels::AttentionInputs& in, const kernels::AttentionMask& mask,
                               const kernels::AttentionOptions& options) {
  kernels::check_tree_attention(in, mask);
  const at::Tensor& q = in.q;
  check<ConfigError>(has_invariant_attention(q.device(), q.scalar_type(), q.size(2)), "attention of ", q.scalar_type(),
                     ", heads of ", q.size(2), ", on ", q.device(), " has no way to the same bits for any batch");
  kernels::AttentionOptions rounded = options;
  rounded.rounded = true;
  return kernels::blocked_attention(in, mask, rounded, *kernels::best_blocked_kernel(q.scalar_type(), q.size(2)),
                                    kernels::BlockedCut::kByPlace)
      .out.to(q.scalar_type());
}

std::vector<int64_t> output_parts(int64_t outputs) {
  const int64_t parts = std::max(std::min<int64_t>(outputs, 2), (outputs + kOutputs - 1) / kOutputs);
  std::vector<int64_t> begins;
  for (int64_t p = 0; p < parts; ++p) begins.push_back(outputs * p / parts);
  return begins;
}

void for_output_parts(int64_t outputs, const std::function<void(int64_t begin, int64_t count)>& part) {
  std::vector<int64_t> begins = output_parts(outputs);
  const int64_t parts = std::ssize(begins);
  begins.push_back(outputs);
  for_each_part(parts, [&](size_t p) { part(begins[p], begins[p + 1] - begins[p]); });
}

void pack_by_parts(Parameter& parameter) {
  parameter.packed = parameter.value.defined()
                         ? kernels::pack_weight(parameter.value.detach(), output_parts(parameter.value.size(0)))
                         : nullptr;
}

void packed_products(const at::Tensor& x, const kernels::PackedWeight& weight, at::Tensor& y, bool accumulates) {
  const at::Tensor rows = x.contiguous();
  for_each_part(std::ssize(weight.part), [&](size_t p) {
    for (int64_t row = 0, count = 0; row < rows.size(0); row += count) {
      count = std::min(rows.size(0) - row, kInvariantRows);
      at::Tensor block = y.narrow(0, row, count);
      kernels::part_product(rows.narrow(0, row, count), weight, weight.part[p], block, accumulates);
    }
  });
}

at::Tensor invariant_linear(const at::Tensor& x, const Parameter& weight, const Parameter* bias,
                            const at::Tensor& residual) {
  const int64_t outputs = weight.value.size(0), rows = x.size(0);
  check<ShapeError>(rows % kInvariantPanel == 0, "invariant_linear of ", rows, " rows, no multiple of ",
                    kInvariantPanel);
  at::Tensor y = at::empty({rows, outputs}, x.options());
  if (weight.packed) {
    if (residual.defined()) y.copy_(residual);
    if (bias) residual.defined() ? y.add_(bias->value) : y.copy_(bias->value.expand_as(y));
    packed_products(x, *weight.packed, y, bias != nullptr || residual.defined());
    return y;
  }
  for_output_parts(outputs, [&](int64_t begin, int64_t count) {
    const at::Tensor part = weight.value.narrow(0, begin, count);
    const auto of_bias = bias ? std::optional<at::Tensor>(bias->value.narrow(0, begin, count)) : std::nullopt;
    for (int64_t row = 0, count_here = 0; row < rows; row += count_here) {
      count_here = std::min(rows - row, kInvariantRows);
      const auto block = [&](const at::Tensor& whole) { return whole.narrow(0, row, count_here); };
      const auto addend =
          residual.defined() ? std::optional<at::Tensor>(block(residual).narrow(1, begin, count)) : std::nullopt;
      block(y)
          .narrow(1, begin, count)
          .copy_(kernels::linear(block(x), part, of_bias, std::nullopt, std::nullopt, addend));
    }
  });
  return y;
}

}  // namespace fpdist::ops
