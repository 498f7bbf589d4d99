#pragma once
// tree_attention by a plan: what the CUDA operator runs, written against any device, so that the CPU tests it. Calls
// run in the plan's order, their outputs are merged by lse in the accumulation dtype, and backward gives every call the
// merged out and lse and adds up in the accumulation dtype: the same bits for the same plan (unless the plan allows
// otherwise). Arguments and results as kernels::tree_attention's; the plan says which rows they are. Throws ShapeError.

#include <ATen/core/Tensor.h>

#include <tuple>

#include "kernels/tree_attention/mask/attention_plan.hpp"

namespace fpdist::kernels {

std::tuple<at::Tensor, at::Tensor> planned_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     const AttentionPlan& plan, double scale);

std::tuple<at::Tensor, at::Tensor, at::Tensor> planned_attention_backward(const at::Tensor& grad_out,
                                                                          const at::Tensor& q, const at::Tensor& k,
                                                                          const at::Tensor& v, const at::Tensor& out,
                                                                          const at::Tensor& lse,
                                                                          const AttentionPlan& plan, double scale);

}  // namespace fpdist::kernels
