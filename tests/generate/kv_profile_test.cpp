// PrefixKV's calibration as a file: what is written is read again, and what is none is refused.
#include "src/main/generate/kv_profile.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::main_program {
namespace {

using test::error_of, test::expect_words;

TEST(KvProfile, IsReadAsItWasWritten) {
  const test::Scratch scratch;
  generate::GenerationReport report;
  report.chosen_prompts = 4, report.dropped = {0.4, 1.2, 3};
  write_kv_profile(scratch / "kv.json", {.budget = 0.6, .start_size = 2}, report);
  generate::PrefixKvOptions options{.distance = 7};
  EXPECT_EQ(read_kv_profile(scratch / "kv.json", options), (std::vector<double>{0.1, 0.3, 0.75}));
  EXPECT_EQ(options.budget, 0.6);
  EXPECT_EQ(options.start_size, 2);
  EXPECT_EQ(options.distance, 7);
  options.budget = 0.5;
  expect_words(error_of<ConfigError>([&] { read_kv_profile(scratch / "kv.json", options); }),
               {"eval.kv_budget is 0.5, and ", "kv.json is for 0.6: leave it out"});
  report.chosen_prompts = 0;
  expect_words(error_of<DataError>([&] { write_kv_profile(scratch / "other.json", options, report); }),
               {"other.json: no prompt has rows that no other one has"});
}

TEST(KvProfile, RefusesWhatIsNone) {
  const test::Scratch scratch;
  const auto refusal = [&](const std::string& text) {
    test::spill(scratch / "no.json", text);
    generate::PrefixKvOptions options;
    return error_of<ModelFileError>([&] { read_kv_profile(scratch / "no.json", options); });
  };
  expect_words(refusal("{"), {"no.json"});
  expect_words(refusal(R"({"budget": 0.5})"), {"no.json: is no profile of --write_kv_profile: ", "start_size"});
  expect_words(refusal(R"({"budget": 0.5, "start_size": 1, "dropped": ["a"]})"), {"is no profile"});
  expect_words(refusal(R"({"budget": 1, "start_size": 1, "dropped": [0]})"), {"it drops nothing"});
  expect_words(refusal(R"({"budget": 0.5, "start_size": 1, "dropped": []})"), {"it drops nothing"});
  expect_words(refusal(R"({"budget": 0.5, "start_size": 1, "dropped": [2]})"), {"dropped has a share of 2"});
}

}  // namespace
}  // namespace fpdist::main_program
