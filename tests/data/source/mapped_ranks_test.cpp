// Memory of the ranks of a host that share a token cache: an index each, and the groups of a step.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/data/loader.hpp"
#include "src/core/clock.hpp"
#include "src/data/source/token_cache.hpp"
#include "tests/data/source/write_cache.hpp"
#include "tests/support/files/own_memory.hpp"
#include "tests/support/files/scratch.hpp"

namespace fpdist::data {
namespace {

constexpr Digest kKey{.high = 1, .low = 2};
constexpr int kRanks = 8;
constexpr int64_t kMost = int64_t{100} << 20;  // bytes a rank

/// `mib` MiB of tokens, and targets as many, in rows of 8,192; 8 of them begin alike.
void write_cache(const std::string& path, int64_t mib) {
  constexpr int64_t kLength = 8192;
  Dataset dataset;
  dataset.file = {"rows.jsonl"}, dataset.entry = {0};
  for (int64_t g = 0; g < (mib << 20) / (4 * kLength); ++g) {
    Group& group = dataset.group.emplace_back();
    group.id = g;
    Sample& sample = group.sample.emplace_back();
    sample.token.assign(kLength, static_cast<int32_t>(g / 8));
    std::fill(sample.token.begin() + kLength / 2, sample.token.end(), static_cast<int32_t>(g));
    sample.target = sample.token;
    dataset.place.push_back({.file = 0, .line = g + 1});
  }
  test::write_token_cache(path, kKey, dataset, {});
}

/// What a rank does with data before and in its first steps; the most memory that it had for that.
int64_t memory_of_rank(const std::string& path) {
  const int64_t before = test::own_memory();
  int64_t most = 0;
  const auto note = [&] { most = std::max(most, test::own_memory() - before); };
  const auto cache = std::make_shared<const TokenCache>(path, kKey);
  Dataset dataset = cache->facts();
  dataset.source = cache;
  for (const Batching batching : {Batching::kShuffle, Batching::kPrefix}) {
    DataOptions options;
    options.batching = batching;
    const Loader loader = make_loader(dataset, options, 32, 1);
    note();
    const double sharing = step_sharing(dataset, loader);
    if (batching == Batching::kPrefix && sharing < 1.7) return INT64_MAX;
    for (int64_t step = 0; step < 4; ++step) {
      const std::vector<Group> groups = pick_groups(dataset, loader.step(step));
      note();
    }
  }
  return most;
}

void expect_little_memory(int64_t mib) {
  if (test::kMemoryIsKept) GTEST_SKIP();
  const test::Scratch scratch;
  const std::string path = scratch / "x.tokens";
  if (::fork() == 0) {  // what writes it needs memory for all
    write_cache(path, mib);
    ::_exit(0);
  }
  ::wait(nullptr);
  std::vector<std::pair<pid_t, int>> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const int64_t bytes = memory_of_rank(path);
      ::_exit(::write(ends[1], &bytes, sizeof bytes) == sizeof bytes ? 0 : 1);
    }
    ::close(ends[1]);
    ranks.emplace_back(child, ends[0]);
  }
  int64_t most = 0;
  for (const auto& [child, end] : ranks) {
    int64_t bytes = 0;
    EXPECT_EQ(::read(end, &bytes, sizeof bytes), static_cast<ssize_t>(sizeof bytes));
    ::close(end);
    ::waitpid(child, nullptr, 0);
    EXPECT_LT(bytes, kMost) << "of " << mib << " MiB of tokens";
    most = std::max(most, bytes);
  }
  const auto start = Clock::now();
  const TokenCache cache(path, kKey);
  std::printf("a cache of %.1f GiB opens in %.1f ms; most a rank %.1f MiB\n",
              static_cast<double>(std::filesystem::file_size(path)) / (1 << 30), 1e3 * seconds_since(start),
              static_cast<double>(most) / (1 << 20));
}

TEST(MappedRanks, HaveNoTokensInMemory) { expect_little_memory(256); }
TEST(MappedRanks, DISABLED_HaveNoneOfTwoGibibytes) { expect_little_memory(2048); }

}  // namespace
}  // namespace fpdist::data
