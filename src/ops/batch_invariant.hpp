#pragma once
// ops: attention and products whose bits for a row are that row's alone, for generation that promises so. On the CPU;
// not differentiable.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "fpdist/kernels/attention.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::ops {

inline constexpr int64_t kInvariantPanel = 64;
/// Rows that go through a weight together: so many or a panel of them round alike (a handful would not), and a product
/// brings the weight into its order once for each.
inline constexpr int64_t kInvariantRows = 128;

/// Whether this machine can, of such q.
bool has_invariant_attention(const at::Device& device, at::ScalarType dtype, int64_t head_size);

/// [Tq,Hq,D] in q's dtype, 0 for a query without keys. A query's bits are a function of the query and of the keys that
/// it sees, by their places modulo kInvariantPanel among all keys: neither other queries nor how many are asked
/// together nor threads enter. A path whose keys stand at places congruent to their depths, each run of depths between
/// two multiples in a panel of its own, so has the same bits whatever lies beside it. Throws ShapeError, and
/// ConfigError where the machine cannot.
at::Tensor invariant_attention(const kernels::AttentionInputs& in, const kernels::AttentionMask& mask,
                               const kernels::AttentionOptions& options);

/// ops::linear of a weight that is not quantised, x [n,I] with n a multiple of kInvariantPanel: by kInvariantRows
/// rows at a time, as a product rounds by its number of rows where these are few, and cut along the outputs. Packed
/// weights round otherwise than others do, so that rows are alike among calls between which that does not change.
at::Tensor invariant_linear(const at::Tensor& x, const Parameter& weight, const Parameter* bias,
                            const at::Tensor& residual);

/// Sets `packed` as ops::set_packed does, in the parts that these products and ops::logits cut the outputs into.
void pack_by_parts(Parameter& parameter);
/// y [n,O] (+)= x of a weight so packed, n any number: rows at a time and threads as invariant_linear has them.
void packed_products(const at::Tensor& x, const kernels::PackedWeight& weight, at::Tensor& y, bool accumulates);

/// Where the parts of so many outputs begin: at least two where there are two, as a single one would be all threads'.
std::vector<int64_t> output_parts(int64_t outputs);
/// part(begin, count) of each, by any number of threads and each computed by one of them.
void for_output_parts(int64_t outputs, const std::function<void(int64_t begin, int64_t count)>& part);

}  // namespace fpdist::ops
