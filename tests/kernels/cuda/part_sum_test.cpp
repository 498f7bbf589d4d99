// part_sum's kernel on the PTX machine: right for every count and place, the same bits whatever the order of warps and
// blocks, and not a byte moved in vain.
#include <gtest/gtest.h>

#include "kernels/part_sum/cuda/part_sum_kernel.hpp"
#include "tests/kernels/cuda/matrix.hpp"

namespace fpdist::kernels {
namespace {

using test::fresh_launches, test::launches, test::Matrix;

struct Parts {
  std::vector<Matrix> part;
  Matrix out;
  Parts(Element element, int parts, int64_t count, int64_t shift = 0) : out(element, 1, count, 0, 0, shift) {
    for (int p = 0; p < parts; ++p) part.emplace_back(element, 1, count, p + 1, 0, p % 2 == 0 ? shift : 0);
  }
  void run(Element element) {
    PartSumArguments arguments{
        .part = {}, .out = out.data(), .parts = static_cast<int>(part.size()), .count = out.width()};
    for (size_t p = 0; p < part.size(); ++p) arguments.part[p] = part[p].data();
    ASSERT_EQ(launch_part_sum(arguments, element, nullptr), cudaSuccess);
  }
  /// In float32, in the parts' order.
  float right(int64_t at) const {
    float sum = part[0].at(0, at);
    for (size_t p = 1; p < part.size(); ++p) sum += part[p].at(0, at);
    return sum;
  }
};

class PartSum : public testing::TestWithParam<Element> {};

TEST_P(PartSum, IsRightForEveryCountAndPlace) {
  for (const int parts : {1, 2, 3, 8, 16})
    for (const auto& [count, shift] : {std::pair{1, 0}, {7, 0}, {2051, 0}, {64, 1}, {4100, 8}, {0, 0}}) {
      SCOPED_TRACE(testing::Message() << parts << " parts of " << count << ", shift " << shift);
      fresh_launches();
      Parts p(GetParam(), parts, count, shift);
      p.run(GetParam());
      for (int64_t at = 0; at < count; ++at) {
        const float right = p.right(at);
        ASSERT_EQ(p.out.at(0, at),
                  GetParam() == Element::kFloat32 ? right : ptx::from_bfloat16(ptx::to_bfloat16(right)));
      }
    }
}

TEST_P(PartSum, GivesTheSameBitsInEveryOrderAndMovesEveryByteOnce) {
  std::vector<std::vector<float>> results;
  for (const uint64_t seed : {0, 1, 2}) {
    fresh_launches(seed);
    Parts p(GetParam(), 7, 8192);
    p.run(GetParam());
    results.push_back(p.out.values());
    const auto bytes = static_cast<uint64_t>(8192 * bytes_of(GetParam()));
    EXPECT_EQ(launches().counters.launches, 1u);
    EXPECT_EQ(launches().counters.global_bytes, 8 * bytes);
    EXPECT_EQ(launches().counters.global_sectors, 8 * bytes / 32);
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

TEST_P(PartSum, RefusesMorePartsThanItTakes) {
  EXPECT_EQ(launch_part_sum({{}, nullptr, 0, 4}, GetParam(), nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(launch_part_sum({{}, nullptr, kMostParts + 1, 4}, GetParam(), nullptr), cudaErrorInvalidValue);
}

INSTANTIATE_TEST_SUITE_P(Elements, PartSum, testing::Values(Element::kFloat32, Element::kBFloat16));

}  // namespace
}  // namespace fpdist::kernels
