// What a run takes away of what it has written.

#include "src/trainer/run/rotation.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "src/trainer/run/resume.hpp"
#include "tests/support/files/scratch.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

TEST(Rotation, TheNewestAndTheBestStay) {
  const auto removed = [](std::vector<int64_t> steps, int64_t limit, int64_t newest, int64_t best) {
    return steps_to_remove(std::move(steps), {.output_dir = "", .limit = limit, .newest = newest, .best = best});
  };
  using Steps = std::vector<int64_t>;
  EXPECT_EQ(removed({40, 30, 20, 10}, 0, 40, 0), Steps{});
  EXPECT_EQ(removed({40, 30, 20, 10}, 2, 40, 0), (Steps{10, 20}));
  EXPECT_EQ(removed({40, 30, 20, 10}, 2, 40, 10), (Steps{20, 30}));
  EXPECT_EQ(removed({40, 30, 20, 10}, 1, 40, 20), (Steps{10, 30})) << "the newest and the best are two";
  EXPECT_EQ(removed({40, 30, 20, 10}, 1, 30, 0), (Steps{10, 20})) << "40 is of another run, or damaged";
}

TEST(CutMetrics, LeavesWholeLinesUpToAStep) {
  const test::Scratch scratch;
  const std::string path = scratch / "metrics.jsonl";
  const std::string two = "{\"step\": 1, \"loss\": 2}\n{\"step\": 2}\n", eval = "{\"step\": 2, \"eval_loss\": 1}\n";
  for (const std::string& behind : {std::string(), std::string("{\"step\": 3}\n{\"step\": 4}\n"),
                                    std::string("{\"step\": 2, \"lo"), std::string("half\n{\"step\": 2}\n")}) {
    test::spill(path, two + eval + behind);
    cut_metrics(path, 2);
    EXPECT_EQ(test::slurp(path), two + eval) << behind;
  }
  cut_metrics(scratch / "none.jsonl", 2);
  EXPECT_FALSE(fs::exists(scratch / "none.jsonl"));
}

}  // namespace
}  // namespace fpdist::trainer
