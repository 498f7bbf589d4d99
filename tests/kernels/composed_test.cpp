// The families out of ATen's operations, which any device runs, against the CPU twins.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/keyed_dropout/keyed_dropout.hpp"
#include "kernels/keyed_dropout/keyed_dropout_composed.hpp"
#include "kernels/nf4/nf4_composed.hpp"
#include "kernels/nf4/quantize.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rms_norm/rms_norm_composed.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/rotary/rotary_composed.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/swiglu/swiglu_composed.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::kernels {
namespace {

TEST(Composed, EqualTheTwins) {
  for (const auto& [dtype, tolerance] : {std::pair{at::kDouble, 1e-13}, {at::kFloat, 1e-5}, {at::kBFloat16, 8e-3}}) {
    SCOPED_TRACE(dtype);
    at::manual_seed(5);
    const auto random = [&, type = dtype](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble).to(type); };
    const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor heads = random({9, 3, 8}), angle = at::randn({9, 4}, wide) * 100;
    for (const bool inverse : {false, true})
      EXPECT_LT(test::relative_error(composed_rotary(heads, at::cos(angle), at::sin(angle), inverse),
                                     rotary(heads, at::cos(angle), at::sin(angle), inverse)),
                tolerance);
    const at::Tensor gate = random({9, 13}) * 3, up = random({9, 13}), dy = random({9, 13}), weight = random({13});
    EXPECT_LT(test::relative_error(composed_swiglu(gate, up), swiglu(gate, up)), tolerance);
    const auto [dg, du] = composed_swiglu_backward(dy, gate, up);
    const auto [twin_dg, twin_du] = swiglu_backward(dy, gate, up);
    EXPECT_LT(test::relative_error(dg, twin_dg), tolerance);
    EXPECT_LT(test::relative_error(du, twin_du), tolerance);
    EXPECT_LT(test::relative_error(composed_rms_norm(gate, weight, 1e-6), rms_norm(gate, weight, 1e-6, {})), tolerance);
    const auto [dx, dw] = composed_rms_norm_backward(dy, gate, weight, 1e-6);
    const auto [twin_dx, twin_dw] = rms_norm_backward(dy, gate, weight, 1e-6);
    EXPECT_LT(test::relative_error(dx, twin_dx), tolerance);
    EXPECT_LT(test::relative_error(dw, twin_dw), tolerance);
    EXPECT_EQ(dx.scalar_type(), dtype);
    EXPECT_EQ(dw.scalar_type(), wide);
    const at::Tensor key = at::randint(-1000, 1000, {9}, at::kLong).mul_(int64_t{1} << 52);
    EXPECT_TRUE(at::equal(composed_keyed_dropout(gate, key, -3, 0.4, 5), keyed_dropout(gate, key, -3, 0.4, 5)));
  }
}

TEST(Composed, DequantizesToTheTwinsBits) {
  at::manual_seed(6);
  for (const auto stored : {at::kFloat, at::kBFloat16, at::kHalf})
    for (const bool nested : {false, true})
      for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
        const Nf4 matrix = quantize_nf4(at::randn({7, 333}).to(stored), nested);
        const std::optional<at::Tensor> of_group(matrix.nested_absmax), map(matrix.nested_map);
        const at::Tensor composed =
            composed_dequantize_nf4({matrix.code, matrix.absmax, of_group, map, matrix.nested_offset, matrix.sizes,
                                     matrix.block, matrix.nested_block, matrix.stored, dtype});
        EXPECT_TRUE(at::equal(composed, dequantize_nf4(matrix, dtype))) << stored << " " << nested << " " << dtype;
      }
}

}  // namespace
}  // namespace fpdist::kernels
