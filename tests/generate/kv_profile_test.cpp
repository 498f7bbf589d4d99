// PrefixKV's calibration as a file: what is written is read again, and what is none, or another model's, is refused.
#include "src/generate/kv_profile.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::generate {
namespace {

using test::error_of, test::expect_words;

class KvProfile : public ::testing::Test {
 protected:
  KvProfile() { test::spill(path_, to_kv_profile(model_, {.budget = 0.6, .start_size = 2}, 4, dropped_)); }
  template <typename Error = ConfigError>
  std::string refusal(PrefixKvOptions options = {}) const {
    return error_of<Error>([&] { read_kv_profile(path_, model_, options); });
  }

  const test::Scratch scratch_;
  const std::string path_ = scratch_ / "kv.json";
  const std::vector<double> dropped_{0.4, 1.2, 3, 0};  // sums of four prompts
  arch::Model model_ = arch::preset_config("tiny");
};

TEST_F(KvProfile, IsReadAsItWasWritten) {
  PrefixKvOptions options{.distance = 7};
  read_kv_profile(path_, model_, options);
  EXPECT_EQ(options.dropped, (std::vector<double>{0.1, 0.3, 0.75, 0}));
  EXPECT_EQ(options.budget, 0.6);
  EXPECT_EQ(options.start_size, 2);
  EXPECT_EQ(options.distance, 7);
  expect_words(error_of<DataError>([&] { (void)to_kv_profile(model_, options, 0, dropped_); }),
               {"no prompt has rows that no other one has"});
}

TEST_F(KvProfile, IsForItsBudgetAndItsFirstKeys) {
  expect_words(refusal({.budget = 0.5}), {"eval.kv_budget is 0.5, and ", "kv.json is for 0.6: leave it out"});
  expect_words(refusal({.start_size = 3}), {"eval.kv_start_size is 3, and ", "kv.json is for 2: leave it out"});
  PrefixKvOptions options{.budget = 0.6, .start_size = 2};
  EXPECT_NO_THROW(read_kv_profile(path_, model_, options));
}

TEST_F(KvProfile, OfAnotherModelIsRefused) {
  const arch::Model own = model_;
  for (const auto& [words, change] : std::vector<std::pair<std::string, void (*)(arch::Model&)>>{
           {"3 layers", [](arch::Model& model) { model.layers.pop_back(); }},
           {"8 heads on 2", [](arch::Model& model) { model.layers[0].attention.heads = 8; }},
           {"4 heads on 1", [](arch::Model& model) { model.layers[0].attention.kv_heads = 1; }},
           {"qwen2 of 4", [](arch::Model& model) { model.family = "qwen2"; }}}) {
    model_ = own;
    change(model_);
    expect_words(refusal(), {"kv.json is of llama of 4 layers, hidden size ", "and this model is", words,
                             "make one with this model (--write_kv_profile)"});
  }
}

TEST_F(KvProfile, RefusesWhatIsNone) {
  const std::string whole = to_kv_profile(model_, {.budget = 0.6, .start_size = 2}, 4, dropped_);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string other = whole;
    const size_t at = other.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    test::spill(path_, other.replace(at, from.size(), to));
    return refusal<ModelFileError>();
  };
  test::spill(path_, "{");
  expect_words(refusal<ModelFileError>(), {"kv.json"});
  expect_words(with("\"start_size\"", "\"start\""), {"kv.json: is no profile of --write_kv_profile: ", "start_size"});
  expect_words(with("\"model\"", "\"made_with\""), {"kv.json: is no profile of --write_kv_profile: ", "model"});
  expect_words(with("0.1,", "\"a\","), {"is no profile"});
  expect_words(with("0.1,", "2,"), {"dropped has a share of 2"});
  expect_words(with("0.1,", "-0.5,"), {"dropped has a share of -0.5"});
  expect_words(with("0.6", "1"), {"it drops nothing"});
  expect_words(with("0.6", "0"), {"kv.json: budget is 0"});
  expect_words(with("0.6", "-1"), {"kv.json: budget is -1"});
  expect_words(with(": 2,", ": 1.5,"), {"kv.json: start_size is 1.5"});
  expect_words(with(": 2,", ": -2,"), {"kv.json: start_size is -2"});
  expect_words(with("0.1,", "0.1],\n\"dropped\": ["), {"kv.json", "dropped"});
  test::spill(path_, R"({"model": "", "budget": 0.5, "start_size": 1, "dropped": []})");
  expect_words(refusal<ModelFileError>(), {"it drops nothing"});
  PrefixKvOptions options;
  expect_words(error_of<ModelFileError>([&] { read_kv_profile(scratch_ / "none.json", model_, options); }),
               {"none.json: cannot be opened"});
}

}  // namespace
}  // namespace fpdist::generate
