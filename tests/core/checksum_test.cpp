#include "src/core/checksum.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "src/core/builds.hpp"

namespace fpdist {
namespace {

std::string of(const std::string& bytes) { return to_string(Checksum().add(bytes.data(), bytes.size()).value()); }

// Values of xxhsum -H2, libxxhash's own program.
TEST(Checksum, IsXxh3OfTheBytes) {
  EXPECT_EQ(of(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(of("a"), "a96faf705af16834e6c632b61e964e1f");
  EXPECT_EQ(of(std::string(1000, 'x')), of(std::string(1000, 'x')));
  EXPECT_NE(of(std::string(1000, 'x')), of(std::string(999, 'x') + 'y'));
}

TEST(Checksum, OfABufferIsThatOfItsPieces) {
  const std::string bytes =
      "of a buffer of any length, more than one block of the hash's own: " + std::string(700, 'z');
  for (size_t cut = 0; cut <= bytes.size(); cut += 13)
    EXPECT_EQ(to_string(Checksum().add(bytes.data(), cut).add(bytes.data() + cut, bytes.size() - cut).value()),
              of(bytes));
}

TEST(Checksum, ListsAreToldApartWhereOneEndsAndTheNextBegins) {
  const auto of_lists = [](const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
    return Checksum().add(std::span<const int32_t>(a)).add(std::span<const int32_t>(b)).value();
  };
  EXPECT_NE(of_lists({1, 2}, {3}), of_lists({1}, {2, 3}));
  EXPECT_NE(of_lists({}, {1}), of_lists({1}, {}));
  EXPECT_EQ(of_lists({1}, {2, 3}), of_lists({1}, {2, 3}));
}

TEST(Builds, TheProgramHasAMark) {
  const std::vector<Build> builds = loaded_builds();
  ASSERT_FALSE(builds.empty());
  EXPECT_EQ(builds.front().name, "core_types_test");
  EXPECT_EQ(builds.front().id.size(), 40U) << "a SHA-1 in hexadecimal";
}

}  // namespace
}  // namespace fpdist
