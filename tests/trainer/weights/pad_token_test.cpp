// Reward models and their padding: Transformers reads a score at the last token that is not config.json's pad_token_id.

#include "src/trainer/weights/pad_token.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

data::Group group_of(std::vector<std::vector<int32_t>> samples) {
  data::Group group;
  for (auto& tokens : samples) group.sample.emplace_back().token = std::move(tokens);
  return group;
}

TEST(PadToken, ASpareTokenIsOneThatNothingHoldsOrAtLeastNothingEndsIn) {
  SeenTokens seen(4);
  EXPECT_EQ(seen.spare(), 3);
  data::Group group = group_of({{3, 1}, {}});
  seen.see({&group, 1});
  EXPECT_EQ(seen.spare(), 2);
  EXPECT_TRUE(seen.ends_in(1));
  EXPECT_FALSE(seen.ends_in(3));
  group = group_of({{2, 0}});
  seen.see({&group, 1});
  EXPECT_EQ(seen.spare(), 3) << "held, and never at an end";
  group = group_of({{3}, {2}});
  seen.see({&group, 1});
  EXPECT_EQ(seen.spare(), std::nullopt);
}

class RewardExport : public ::testing::Test {
 protected:
  RewardExport() {
    at::set_num_threads(1);
    fs::create_directories(scratch_ / "base");
    const std::string golden = std::string(FPDIST_SOURCE_DIR) + "/tests/golden/train/model";
    fs::copy_file(golden + "/model.safetensors", scratch_ / "base/model.safetensors");
    config_ = Json::parse(test::slurp(golden + "/config.json"));
  }
  /// Trains the base model with this pad_token_id (null: none) on rows whose answers end in token 1, and says what
  /// final/ would be padded with.
  Json exported_pad(const Json& pad) {
    config_["pad_token_id"] = pad;
    test::spill(scratch_ / "base/config.json", config_.dump());
    test::spill(scratch_ / "rows.jsonl", R"({"prompt_ids":[5,6],"chosen_ids":[7,1],"rejected_ids":[8,1]}
{"prompt_ids":[5,6],"chosen_ids":[7,7,1],"rejected_ids":[9,1]})");
    Config config;
    config.method = Method::kReward;
    config.model.path = scratch_ / "base";
    config.data.path = {scratch_ / "rows.jsonl"};
    config.optim.learning_rate = 0.01;
    config.train = {.groups_per_step = 2, .max_steps = 3, .output_dir = scratch_ / "out", .overwrite_output_dir = true};
    test::HeardLog log;
    comm::run_threads(2, [&](comm::World& world) {
      Trainer trainer(world, config, log);
      trainer.train();
      trainer.save((fs::path(FPDIST_BINARY_DIR) / "model_export/reward_pad-float32").string());
    });
    said_ = log.said();
    return Json::parse(checkpoint::HfDirectory(scratch_ / "out/final").config_json())["pad_token_id"];
  }
  /// Transformers' rule.
  static size_t place_of_score(const std::vector<int32_t>& tokens, int64_t pad) {
    const auto last = std::find_if(tokens.rbegin(), tokens.rend(), [&](int32_t token) { return token != pad; });
    return static_cast<size_t>(tokens.rend() - last) - 1;
  }

  const test::Scratch scratch_;
  Json config_;
  std::string said_;
};

TEST_F(RewardExport, APadThatSamplesEndInIsAnother) {
  const auto pad = exported_pad(1).get<int64_t>();
  EXPECT_EQ(pad, 63) << "the vocabulary's last, which no row holds";
  test::expect_words(said_, {"warning config.json's pad_token_id 1 is a token that samples end in", "pad_token_id 63",
                             "tokenizer.pad_token = tokenizer.convert_ids_to_tokens(63)"});
  EXPECT_EQ(place_of_score({5, 6, 7, 1}, pad), 3U);
  EXPECT_EQ(place_of_score({5, 6, 7, 1, static_cast<int32_t>(pad)}, pad), 3U) << "in a batch";
  EXPECT_EQ(place_of_score({5, 6, 7, 1}, 1), 2U) << "what it would have been";
}

TEST_F(RewardExport, AModelWithoutAPadGetsOne) {
  EXPECT_EQ(exported_pad(nullptr), 63);
  test::expect_words(said_, {"warning config.json has no pad_token_id", "pad_token_id 63"});
  EXPECT_EQ(exported_pad(-1), 63) << "Llama 1's way to say none";
}

TEST_F(RewardExport, AGoodPadStays) {
  EXPECT_EQ(exported_pad(0), 0);
  EXPECT_EQ(said_.find("pad_token_id"), std::string::npos) << said_;
}

TEST_F(RewardExport, TheTokenizersPadIsTakenWhereItIsGood) {
  test::spill(
      scratch_ / "base/tokenizer_config.json",
      R"({"pad_token":{"content":"<pad>"},"added_tokens_decoder":{"1":{"content":"</s>"},"44":{"content":"<pad>"}}})");
  EXPECT_EQ(tokenizers_pad_token(scratch_ / "base"), 44);
  EXPECT_EQ(exported_pad(1), 44);
  test::expect_words(said_, {"pad batches with it, as the tokenizer does"});
  test::spill(scratch_ / "base/tokenizer_config.json",
              R"({"pad_token":"</s>","added_tokens_decoder":{"1":{"content":"</s>"}}})");
  EXPECT_EQ(tokenizers_pad_token(scratch_ / "base"), 1);
  EXPECT_EQ(exported_pad(nullptr), 63) << "it pads with what samples end in";
  for (const char* odd : {"{", "[]", R"({"pad_token":"<pad>"})", R"({"pad_token":null})",
                          R"({"pad_token":"<pad>","added_tokens_decoder":{"x":{"content":"<pad>"}}})"}) {
    test::spill(scratch_ / "base/tokenizer_config.json", odd);
    EXPECT_EQ(tokenizers_pad_token(scratch_ / "base"), std::nullopt) << odd;
  }
  EXPECT_EQ(tokenizers_pad_token(""), std::nullopt);
}

TEST(PadToken, SamplesThatEndInEverythingAreSaid) {
  arch::Model model = arch::preset_config("tiny");
  SeenTokens seen(model.vocab_size);
  std::vector<data::Group> groups(1);
  for (int32_t token = 0; token < model.vocab_size; ++token) groups[0].sample.emplace_back().token = {token};
  seen.see(groups);
  test::HeardLog log;
  EXPECT_EQ(pad_for_scores(model, seen, "", log), 257);
  test::expect_words(log.said(), {"every token of the vocabulary", "one at a time"});
}

}  // namespace
}  // namespace fpdist::trainer
