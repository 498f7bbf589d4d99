// dequantize_nf4's kernel on the PTX machine: the formula's bits for every length, scale and dtype, whatever the order
// of warps and blocks, and not a byte moved in vain.
#include <gtest/gtest.h>

#include <random>

#include "kernels/nf4/cuda/nf4_kernel.hpp"
#include "tests/kernels/cuda/matrix.hpp"

namespace fpdist::kernels {
namespace {

using test::fresh_launches, test::launches, test::Matrix;

constexpr int64_t kBlock = 64, kNestedBlock = 8;
constexpr float kOffset = 0.25F;
constexpr float kTable[16] = {-1.0F,
                              -0.6961928009986877F,
                              -0.5250730514526367F,
                              -0.39491748809814453F,
                              -0.28444138169288635F,
                              -0.18477343022823334F,
                              -0.09105003625154495F,
                              0.0F,
                              0.07958029955625534F,
                              0.16093020141124725F,
                              0.24611230194568634F,
                              0.33791524171829224F,
                              0.44070982933044434F,
                              0.5626170039176941F,
                              0.7229568362236023F,
                              1.0F};

int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

/// Bytes that the machine watches.
struct Bytes {
  std::vector<uint8_t> held;
  Bytes(int64_t count, uint64_t seed) : held(static_cast<size_t>(count)) {
    std::mt19937_64 random(seed);
    for (uint8_t& byte : held) byte = static_cast<uint8_t>(random());
    launches().memory.add(held.data(), held.size(), true);
  }
};

struct Case {
  int64_t n;
  bool nested;
  Bytes code, nested_code;
  Matrix absmax, of_group, map, out;
  Case(int64_t elements, bool is_nested, Element to)
      : n(elements),
        nested(is_nested),
        code((elements + 1) / 2, 1),
        nested_code(parts(elements, kBlock), 2),
        absmax(Element::kFloat32, 1, parts(elements, kBlock), 3),
        of_group(Element::kFloat32, 1, parts(parts(elements, kBlock), kNestedBlock), 4),
        map(Element::kFloat32, 1, 256, 5),
        out(to, 1, elements) {}
  void run(Element stored, Element to) {
    const Nf4KernelArguments arguments{
        .code = code.held.data(),
        .absmax = nested ? static_cast<const void*>(nested_code.held.data()) : absmax.data(),
        .nested_absmax = nested ? static_cast<const float*>(of_group.data()) : nullptr,
        .nested_map = nested ? static_cast<const float*>(map.data()) : nullptr,
        .out = out.data(),
        .elements = n,
        .nested_offset = kOffset,
        .block = kBlock,
        .nested_block = kNestedBlock};
    ASSERT_EQ(launch_dequantize_nf4(arguments, stored, to, nullptr), cudaSuccess);
  }
  float scale(int64_t block) const {
    if (!nested) return absmax.at(0, block);
    const float product =
        map.at(0, nested_code.held[static_cast<size_t>(block)]) * of_group.at(0, block / kNestedBlock);
    return product + kOffset;
  }
  float wanted(int64_t i, Element stored) const {
    const uint8_t both = code.held[static_cast<size_t>(i / 2)];
    const float value = kTable[i % 2 == 0 ? both >> 4 : both & 15] * scale(i / kBlock);
    if (stored == Element::kBFloat16) return ptx::from_bfloat16(ptx::to_bfloat16(value));
    if (stored == Element::kFloat16) return ptx::from_float16(ptx::to_float16(value));
    return value;
  }
};

TEST(Nf4Kernel, GivesTheFormulasBits) {
  for (const Element to : {Element::kFloat32, Element::kBFloat16})
    for (const Element stored : {Element::kFloat32, Element::kBFloat16, Element::kFloat16})
      for (const bool nested : {false, true})
        for (const int64_t n : {int64_t{1}, int64_t{7}, int64_t{64}, int64_t{65}, int64_t{2312}, int64_t{0}}) {
          SCOPED_TRACE(testing::Message() << n << (nested ? " nested" : "") << " stored " << static_cast<int>(stored)
                                          << " to " << static_cast<int>(to));
          fresh_launches(static_cast<uint64_t>(n));
          Case one(n, nested, to);
          one.run(stored, to);
          for (int64_t i = 0; i < n; ++i) {
            const float wanted = one.wanted(i, stored);
            ASSERT_EQ(one.out.at(0, i), to == Element::kFloat32 ? wanted : ptx::from_bfloat16(ptx::to_bfloat16(wanted)))
                << i;
          }
        }
}

TEST(Nf4Kernel, MovesEveryByteOnce) {
  const int64_t n = 8192;
  fresh_launches();
  Case one(n, false, Element::kBFloat16);
  one.run(Element::kBFloat16, Element::kBFloat16);
  // Codes and results once; eight lanes ask for one scale.
  EXPECT_EQ(launches().counters.launches, 1u);
  EXPECT_EQ(launches().counters.global_bytes, static_cast<uint64_t>(n / 2 + 2 * n + 4 * n / 8));
  EXPECT_EQ(launches().counters.global_requests, static_cast<uint64_t>(3 * n / 256));
}

}  // namespace
}  // namespace fpdist::kernels
