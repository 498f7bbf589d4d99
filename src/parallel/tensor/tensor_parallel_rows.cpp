// Rows between their shards and the whole: each function is the other's backward.
#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <numeric>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::parallel {
namespace {

/// Who holds which rows; a node of the graph keeps it for its backward.
struct RowSplit : torch::CustomClassHolder {
  RowSplit(comm::Communicator& axis, std::span<const int64_t> counts)
      : axis(axis), counts(counts.begin(), counts.end()) {}
  int64_t total() const { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }
  int64_t own() const { return counts[index(axis.rank())]; }
  /// Elements of each rank for rows like those of `rows`.
  std::vector<int64_t> elements(const at::Tensor& rows) const {
    const int64_t width = c10::multiply_integers(rows.sizes().slice(1));
    std::vector<int64_t> elements = counts;
    for (int64_t& count : elements) count *= width;
    return elements;
  }

  comm::Communicator& axis;
  std::vector<int64_t> counts;
};
using RowSplitPtr = c10::intrusive_ptr<RowSplit>;

RowSplitPtr split_of(const char* name, const at::Tensor& rows, comm::Communicator& tp, std::span<const int64_t> counts,
                     bool is_shard) {
  check(static_cast<int>(counts.size()) == tp.size(), name, ": ", counts.size(), " row counts for ", tp.size(),
        " ranks of ", tp.axis());
  auto split = c10::make_intrusive<RowSplit>(tp, counts);
  const int64_t wanted = is_shard ? split->own() : split->total();
  check(rows.defined() && rows.dim() >= 1, name, ": rows are undefined or have no dims");
  check(rows.size(0) == wanted, name, ": ", rows.size(0), " rows on rank ", tp.rank(), " of ", tp.axis(),
        ", the counts say ", wanted);
  return split;
}

at::Tensor with_rows(const at::Tensor& like, int64_t rows) {
  std::vector<int64_t> sizes = like.sizes().vec();
  sizes[0] = rows;
  return at::empty(sizes, like.options().requires_grad(false).memory_format(at::MemoryFormat::Contiguous));
}

at::Tensor gather(const at::Tensor& mine, const RowSplit& split) {
  at::Tensor all = with_rows(mine, split.total());
  split.axis.all_gather_v(mine.contiguous(), all, split.elements(mine));
  return all;
}

at::Tensor scatter_sum(const at::Tensor& partial, const RowSplit& split) {
  at::Tensor mine = with_rows(partial, split.own());
  split.axis.reduce_scatter_v(partial.contiguous(), mine, split.elements(partial));
  return mine;
}

template <auto kForward, auto kBackward>
struct RowExchange : torch::autograd::Function<RowExchange<kForward, kBackward>> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& rows,
                            const RowSplitPtr& split) {
    const at::AutoDispatchBelowAutograd below;
    context->saved_data["split"] = at::IValue::make_capsule(split);
    return kForward(rows.detach(), *split);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto split = context->saved_data["split"].toCapsule();
    return {kBackward(grads[0].detach(), static_cast<const RowSplit&>(*split)), {}};
  }
};
using GatherRows = RowExchange<gather, scatter_sum>;
using ScatterSumRows = RowExchange<scatter_sum, gather>;

}  // namespace

std::vector<int64_t> split_evenly(int64_t total, int parts) {
  check(total >= 0 && parts > 0, "split_evenly: ", total, " cannot be split over ", parts);
  std::vector<int64_t> sizes(index(parts), total / parts);
  for (int64_t i = 0; i < total % parts; ++i) ++sizes[index(i)];
  return sizes;
}

at::Tensor gather_rows(const at::Tensor& mine, comm::Communicator& tp, std::span<const int64_t> counts) {
  const RowSplitPtr split = split_of("gather_rows", mine, tp, counts, /*is_shard=*/true);
  return tp.size() == 1 ? mine : GatherRows::apply(mine, split);
}

at::Tensor scatter_sum_rows(const at::Tensor& partial, comm::Communicator& tp, std::span<const int64_t> counts) {
  const RowSplitPtr split = split_of("scatter_sum_rows", partial, tp, counts, /*is_shard=*/false);
  return tp.size() == 1 ? partial : ScatterSumRows::apply(partial, split);
}

}  // namespace fpdist::parallel
