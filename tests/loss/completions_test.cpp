#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {
namespace {

/// A prompt of two tokens; `mask`: which of the completion's are supervised.
data::Sample completion(const std::vector<bool>& mask, bool truncated) {
  data::Sample sample;
  sample.token = {1, 2}, sample.target = {data::kIgnore, data::kIgnore};
  sample.prompt_length = 2;
  for (const bool supervised : mask) {
    sample.token.push_back(7);
    sample.target.push_back(supervised ? 7 : data::kIgnore);
  }
  sample.truncated = truncated;
  return sample;
}

TEST(Completions, LengthsCountWhatWasSampledAndCutsApart) {
  std::vector<data::Group> groups(2);
  groups[0].sample = {completion({true, true, true, true}, true), completion({true, false}, false)};
  groups[1].sample = {completion({true, true, true}, false)};
  const std::map<std::string, double> wanted{{"completions/mean_length", 8.0 / 3},
                                             {"completions/min_length", 1},
                                             {"completions/max_length", 4},
                                             {"completions/clipped_ratio", 1.0 / 3},
                                             {"completions/mean_terminated_length", 2},
                                             {"completions/min_terminated_length", 1},
                                             {"completions/max_terminated_length", 3}};
  EXPECT_EQ(completion_metrics(groups), wanted);
  EXPECT_TRUE(completion_metrics({}).empty());
}

TEST(Completions, AFirstTokenIsPredictedByNothing) {
  data::Group group;
  group.sample.resize(2);  // one without tokens
  group.sample[0].token = group.sample[0].target = {4, 5, 6};
  const auto metrics = completion_metrics({&group, 1});
  EXPECT_EQ(metrics.at("completions/max_length"), 2);
  EXPECT_EQ(metrics.at("completions/min_length"), 0);
}

TEST(Completions, MaskingLeavesWhatEndedAlone) {
  std::vector<data::Group> groups(1);
  groups[0].sample = {completion({true, true}, true), completion({true, false}, false)};
  const data::Sample ended = groups[0].sample[1];
  mask_truncated(groups);
  const auto& cut = groups[0].sample[0].target;
  EXPECT_EQ(std::count(cut.begin(), cut.end(), data::kIgnore), 4);
  EXPECT_EQ(groups[0].sample[1].target, ended.target);
  EXPECT_EQ(groups[0].sample[0].token.size(), 4U) << "it stays among the samples";
}

}  // namespace
}  // namespace fpdist::loss
