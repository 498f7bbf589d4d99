// Real rows from the reader to the plan; what sharing saves is counted a second time from the set of all prefixes.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/core/method.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/prefix/forest.hpp"

namespace fpdist::plan {
namespace {

ParallelOptions one_rank() {
  ParallelOptions options;
  options.dp = 1;
  return options;
}

struct RealFile {
  Method method;
  std::string_view name;
  size_t rows;
};

class RealData : public ::testing::TestWithParam<RealFile> {};

TEST_P(RealData, IsReadInFullAndSharesWhatANaiveCountSays) {
  const std::string path = std::string(FPDIST_SOURCE_DIR) + "/../shared/data/" + std::string(GetParam().name);
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "SKIPPED: no real data at " << path;
  data::DataOptions options;
  options.path = {path};
  options.max_length = 1 << 20;
  NullLog log;
  const data::Dataset dataset = data::read_dataset(options, GetParam().method, *data::make_byte_tokenizer(), log);
  EXPECT_EQ(dataset.group.size(), GetParam().rows);
  EXPECT_EQ(dataset.dropped_rows + dataset.truncated_samples, 0);
  EXPECT_EQ(dataset.max_token_id, 256);

  const std::span<const data::Group> subset(dataset.group.data(), 60);
  std::set<std::string> prefixes;  // every distinct prefix, spelled out
  int64_t logical = 0;
  for (const data::Group& group : subset) {
    for (const data::Sample& sample : group.sample) {
      std::string prefix;
      for (const int32_t id : sample.token) prefixes.insert(prefix += static_cast<char>(id == 256 ? 0 : id));
      logical += sample.length();
    }
  }
  std::vector<prefix::TokenSpan> spans;
  for (const data::Group& group : subset)
    for (const data::Sample& sample : group.sample) spans.emplace_back(sample.token);
  EXPECT_EQ(prefix::make_forest(spans).tokens(), static_cast<int64_t>(prefixes.size()));

  PackOptions pack;
  pack.max_tokens = 1 << 20;  // one pack: the plan's ratio is the forest's
  const StepPlan plan =
      make_step_plan(subset, loss::spec_of(GetParam().method, {}).atomic(), one_rank(),
                     {.layers = 1, .per_row = 1, .forward_pair = 0, .per_edge = 0, .overhead_rows = 0}, pack);
  EXPECT_EQ(plan.totals.tokens_logical, logical);
  EXPECT_EQ(plan.totals.tokens_computed, static_cast<int64_t>(prefixes.size()));
  EXPECT_GT(plan.totals.sharing_ratio(), 1.0);
}

INSTANTIATE_TEST_SUITE_P(Gsm8k, RealData,
                         ::testing::Values(RealFile{Method::kSft, "gsm8k_sft.jsonl", 2000},
                                           RealFile{Method::kDpo, "gsm8k_pairs.jsonl", 2121},
                                           RealFile{Method::kReward, "gsm8k_pairs.jsonl", 2121},
                                           RealFile{Method::kGrpo, "gsm8k_groups.jsonl", 1319}),
                         [](const auto& info) { return std::string(name_of(info.param.method)); });

}  // namespace
}  // namespace fpdist::plan
