#include "src/core/words.hpp"

#include <gtest/gtest.h>

#include <array>

#include "src/core/index.hpp"

namespace fpdist {
namespace {

TEST(Words, BytesAreSaidInPowersOf1024) {
  EXPECT_EQ(bytes_text(0), "0.0 MiB");
  EXPECT_EQ(bytes_text(3 * kMiB / 2), "1.5 MiB");
  EXPECT_EQ(bytes_text(kGiB * 9 / 4), "2.25 GiB");
  EXPECT_EQ(gib_text(9 * kGiB / 4), "2.25 GiB");
  EXPECT_EQ(gib_text(2 * kGiB), "2 GiB");
  EXPECT_EQ(in_gib(kGiB / 2), 0.5);
  EXPECT_EQ(in_mib(kGiB), 1024.0);
}

TEST(Words, SharesAndTimes) {
  EXPECT_EQ(percent(0.1), "10.0 %");
  EXPECT_EQ(percent(1.255), "125.5 %");
  EXPECT_EQ(minutes(0), "0:00");
  EXPECT_EQ(minutes(64.6), "1:05");
  EXPECT_EQ(minutes(3600), "60:00");
  EXPECT_EQ(number("%.3g", 12345), "1.23e+04");
}

TEST(Index, CastsWhatPlansHold) {
  static_assert(std::is_same_v<decltype(index(int32_t{1})), size_t>);
  constexpr std::array<int, 2> two{1, 2};
  EXPECT_EQ(two[index(int64_t{1})], 2);
}

}  // namespace
}  // namespace fpdist
