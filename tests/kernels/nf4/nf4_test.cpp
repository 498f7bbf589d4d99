// The laws of dequantize_nf4, on the device that test_device.hpp says, and of quantize_nf4: what bitsandbytes makes of
// the matrices of tests/golden (make_nf4_golden.py).
#include "kernels/nf4/nf4.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fpdist/checkpoint/safetensors.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/ops/quantized_weight.hpp"
#include "kernels/nf4/quantize.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/random/random_tensor.hpp"

namespace fpdist {
namespace {

using kernels::Nf4;
using test::here, test::random, test::there;

Nf4 sent(Nf4 matrix) {
  for (at::Tensor* part : {&matrix.code, &matrix.absmax, &matrix.nested_absmax, &matrix.nested_map})
    if (part->defined()) *part = there(*part);
  return matrix;
}

at::Tensor back(const Nf4& matrix, at::ScalarType dtype) { return here(kernels::dequantize_nf4(sent(matrix), dtype)); }

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && at::equal(a, b);
}

class Nf4Golden : public testing::TestWithParam<const char*> {
 protected:
  at::Tensor golden(const std::string& part) const { return file_.tensor(GetParam() + ("." + part)); }
  bool is_nested() const { return std::string(GetParam()) == "nested"; }
  checkpoint::SafetensorsFile file_{FPDIST_SOURCE_DIR "/tests/golden/nf4.safetensors"};
};

TEST_P(Nf4Golden, CodesAndScalesAreBitsandbytes) {
  const at::Tensor matrix = golden("matrix");
  const Nf4 plain = kernels::quantize_nf4(matrix, false), made = kernels::quantize_nf4(matrix, is_nested());
  EXPECT_TRUE(at::equal(plain.code, golden("weight").flatten()));
  EXPECT_EQ(made.stored, matrix.scalar_type());
  EXPECT_TRUE(at::equal(ops::nf4_table(), golden("weight.quant_map")));
  if (!is_nested()) {
    EXPECT_TRUE(same_bits(made.absmax, golden("weight.absmax")));
    return;
  }
  EXPECT_TRUE(same_bits(made.nested_map, golden("weight.nested_quant_map")));
  EXPECT_TRUE(same_bits(made.nested_absmax, golden("weight.nested_absmax")));
  // bitsandbytes 0.50 takes the second nearest here and there.
  const at::Tensor differs = made.absmax.to(at::kInt) - golden("weight.absmax").to(at::kInt);
  EXPECT_LE(differs.abs().max().item<int>(), 1);
  EXPECT_LT(differs.ne(0).to(at::kFloat).mean().item<float>(), 0.01);
}

TEST_P(Nf4Golden, ItsWeightsAreBitsandbytesOwn) {
  Nf4 matrix = kernels::quantize_nf4(golden("matrix"), is_nested());
  if (is_nested()) {
    const at::Tensor state = golden("weight.quant_state.bitsandbytes__nf4").contiguous();
    const std::string json(reinterpret_cast<const char*>(state.const_data_ptr<uint8_t>()),
                           static_cast<size_t>(state.numel()));
    const size_t found = json.find("nested_offset\": ");
    EXPECT_EQ(matrix.nested_offset, std::stod(json.substr(found + 16)));
    matrix.absmax = golden("weight.absmax").contiguous();
  }
  const at::Tensor wanted = golden("dequantized");
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble})
    EXPECT_TRUE(same_bits(back(matrix, dtype), wanted.to(dtype))) << dtype;
  if (is_nested()) {
    const Nf4 flat = kernels::without_nesting(matrix);
    EXPECT_FALSE(flat.is_nested());
    EXPECT_TRUE(same_bits(back(flat, at::kFloat), wanted.to(at::kFloat)));
    EXPECT_LT(matrix.bytes() - 1024, flat.bytes());
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Nf4Golden, testing::Values("float32", "bfloat16", "float16", "nested"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Nf4, OddTailsAndIncompleteBlocksComeBackToo) {
  at::manual_seed(6);
  for (const int64_t columns : {1, 2, 7, 8, 9, 63, 65, 127, 300}) {
    const at::Tensor matrix = random({3, columns}, at::kFloat);
    const Nf4 made = kernels::quantize_nf4(matrix, true);
    const at::Tensor value = back(made, at::kFloat);
    ASSERT_EQ(value.sizes(), matrix.sizes());
    // No further than half of the table's widest gap, of the block's scale; scales themselves to a percent.
    EXPECT_LT((value - matrix).abs().max().item<float>(), 0.17F * matrix.abs().max().item<float>()) << columns;
    EXPECT_TRUE(same_bits(value, back(made, at::kFloat)));
  }
  EXPECT_EQ(back(kernels::quantize_nf4(at::zeros({2, 64}, at::kFloat), true), at::kFloat).abs().max().item<float>(), 0);
}

/// Where a product with the reciprocal, which is bitsandbytes' way, and a quotient lie on two sides of a boundary.
TEST(Nf4, ScalesByTheReciprocalOfTheLargest) {
  constexpr uint64_t kSeed = 11;
  at::manual_seed(kSeed);
  const at::Tensor table = ops::nf4_table();
  const auto* const value = table.const_data_ptr<float>();
  int apart = 0;
  for (int round = 0; round < 200; ++round) {
    const float largest = at::rand({1}, at::kFloat).item<float>() + 0.5F;
    at::Tensor matrix = at::zeros({1, 64}, at::kFloat);
    auto* const x = matrix.mutable_data_ptr<float>();
    for (int i = 0; i < 15; ++i)
      for (int ulps = -1; ulps <= 1; ++ulps) {
        const float near = (value[i] + value[i + 1]) / 2 * largest;
        x[i * 3 + 1 + ulps] = ulps == 0 ? near : std::nextafter(near, static_cast<float>(ulps) * 2);
      }
    x[63] = largest;
    const at::Tensor code = kernels::quantize_nf4(matrix, false).code;
    const auto code_of = [&](float scaled) {
      int above = 0;
      for (int i = 0; i < 15; ++i) above += scaled > (value[i] + value[i + 1]) / 2 ? 1 : 0;
      return above;
    };
    for (int i = 0; i < 64; ++i) {
      const int stored = code[i / 2].item<uint8_t>();
      const int wanted = code_of(x[i] * (1 / largest));
      ASSERT_EQ(i % 2 == 0 ? stored >> 4 : stored & 15, wanted) << "seed " << kSeed << ", round " << round;
      apart += wanted != code_of(x[i] / largest) ? 1 : 0;
    }
  }
  EXPECT_GT(apart, 0);
}

TEST(Nf4, SlicesOfWholeBlocksAreThoseOfTheWhole) {
  at::manual_seed(7);
  const at::Tensor matrix = random({6, 256}, at::kFloat);
  for (const bool nested : {false, true}) {
    const Nf4 whole = kernels::quantize_nf4(matrix, nested);
    const at::Tensor value = back(whole, at::kFloat);
    EXPECT_TRUE(same_bits(back(ops::cut(whole, 0, 2, 3), at::kFloat), value.narrow(0, 2, 3)));
    EXPECT_TRUE(same_bits(back(ops::cut(whole, 1, 64, 128), at::kFloat), value.narrow(1, 64, 128)));
    EXPECT_THROW(ops::cut(whole, 1, 32, 64), ShapeError);
    EXPECT_THROW(ops::cut(whole, 1, 64, 100), ShapeError);
  }
  const Nf4 narrow = kernels::quantize_nf4(random({8, 24}, at::kFloat), false);
  EXPECT_TRUE(same_bits(back(ops::cut(narrow, 0, 0, 8), at::kFloat), back(narrow, at::kFloat)));
  EXPECT_THROW(ops::cut(narrow, 0, 0, 3), ShapeError);
}

TEST(Nf4, RefusesWrongArguments) {
  const Nf4 good = sent(kernels::quantize_nf4(random({4, 64}, at::kFloat), true));
  const auto refused = [&](auto change, at::ScalarType dtype = at::kFloat) {
    Nf4 bad = good;
    change(bad);
    EXPECT_THROW(kernels::dequantize_nf4(bad, dtype), ShapeError);
  };
  refused([](Nf4& m) { m.code = m.code.slice(0, 1); });
  refused([](Nf4& m) { m.code = m.code.to(at::kInt); });
  refused([](Nf4& m) { m.absmax = m.absmax.to(at::kFloat); });
  refused([](Nf4& m) { m.nested_absmax = at::Tensor(); });
  refused([](Nf4& m) { m.nested_map = at::Tensor(); });
  refused([](Nf4& m) { m.sizes = {5, 64}; });
  refused([](Nf4& m) { m.block = 4; });
  refused([](Nf4& m) { m.stored = at::kDouble; });
  refused([](Nf4&) {}, at::kHalf);
  EXPECT_THROW(kernels::quantize_nf4(at::zeros({2, 2}, at::kLong), false), ShapeError);
}

}  // namespace
}  // namespace fpdist
