// Completions that were cut, from the row to the gradient.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/files/scratch.hpp"

namespace fpdist::trainer {
namespace {

struct Stepped {
  std::map<std::string, double> metrics;
  at::Tensor gradient;
};

class Truncated : public ::testing::Test {
 protected:
  Truncated() { at::set_num_threads(1); }

  static Config config(Method method, const std::string& loss_type = "") {
    Config config;
    config.method = method;
    config.model.preset = "tiny";
    config.model.dtype = DType::kFloat64;
    config.data.path = {"rows.jsonl"};
    if (!loss_type.empty()) config.loss.loss_type = {loss_type};
    config.optim.max_grad_norm = 0;
    return config;
  }

  /// One step on all rows.
  Stepped step(Config config, const std::string& rows) const {
    config.data.path = {scratch_ / "rows.jsonl"};
    test::spill(config.data.path[0], rows);
    Stepped stepped;
    comm::run_threads(1, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      const auto dataset = data::read_dataset(config.data, config.method, *data::make_byte_tokenizer(), log);
      stepped.metrics = trainer.step(dataset.group).values;
      stepped.gradient = trainer.parameters().main_grad().clone();
    });
    return stepped;
  }

  static std::string ids_of(const std::string& text, bool ends) {
    std::vector<std::string> ids;
    for (const char byte : text) ids.push_back(std::to_string(static_cast<int>(byte)));
    if (ends) ids.emplace_back("256");
    std::string list = "[";
    for (size_t i = 0; i < ids.size(); ++i) list.append(i == 0 ? "" : ",").append(ids[i]);
    return list.append("]");
  }

  const test::Scratch scratch_;
};

TEST_F(Truncated, NoEndOfSequenceIsLearnedBehindARolloutThatWasCut) {
  const std::string said = R"({"prompt":"count: ","completions":["one two three fo","one"],"rewards":[0,1])";
  const std::string tokens = "{\"prompt_ids\":" + ids_of("count: ", false) +
                             ",\"completions\":[{\"ids\":" + ids_of("one two three fo", false) +
                             ",\"reward\":0},{\"ids\":" + ids_of("one", true) + ",\"reward\":1}]}";
  const Stepped right = step(config(Method::kGrpo), tokens);
  for (const char* column : {R"("truncated":[true,false])", R"("finish_reason":["length","stop"])"}) {
    const Stepped text = step(config(Method::kGrpo), said + "," + column + "}");
    EXPECT_TRUE(at::equal(text.gradient, right.gradient)) << column;
    EXPECT_EQ(text.metrics.at("completions/mean_length"), 10);
    EXPECT_EQ(text.metrics.at("completions/clipped_ratio"), 0.5);
    EXPECT_EQ(text.metrics.at("completions/mean_terminated_length"), 4);
  }
  const Stepped ended = step(config(Method::kGrpo), said + "}");
  EXPECT_GT((ended.gradient - right.gradient).norm().item<double>(), 0.1) << "what happened without the column";
}

TEST_F(Truncated, NorBehindAnAnswerOrACompletion) {
  const Stepped pair =
      step(config(Method::kDpo), R"({"prompt":"a","chosen":"bc","rejected":"d","truncated":[true,false]})");
  const Stepped ids =
      step(config(Method::kDpo), R"({"prompt_ids":[97],"chosen_ids":[98,99],"rejected_ids":[100,256]})");
  EXPECT_TRUE(at::equal(pair.gradient, ids.gradient));
  const Stepped sft = step(config(Method::kSft), R"({"prompt":"a","completion":"bc","finish_reason":"length"})");
  const Stepped labels = step(config(Method::kSft), R"({"input_ids":[97,98,99],"labels":[-100,98,99]})");
  EXPECT_TRUE(at::equal(sft.gradient, labels.gradient));
}

TEST_F(Truncated, MaskedOnesCountInTheirGroupsAdvantageAndAmongTheSamplesAlone) {
  const std::string two = R"({"prompt":"count: ","completions":["one two three fo","one","two"],"rewards":[0,1,3],)"
                          R"("truncated":[true,false,false]})";
  // The same with the advantages that the three rewards give, and no target in the first.
  const auto advantage = [](double reward) { return std::to_string((reward - 4.0 / 3) / (std::sqrt(7.0 / 3) + 1e-4)); };
  const std::string mask = "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]";
  const std::string by_hand = "{\"prompt_ids\":" + ids_of("count: ", false) +
                              ",\"completions\":[{\"ids\":" + ids_of("one two three fo", false) + ",\"mask\":" + mask +
                              ",\"advantage\":0},{\"ids\":" + ids_of("one", true) + ",\"advantage\":" + advantage(1) +
                              "},{\"ids\":" + ids_of("two", true) + ",\"advantage\":" + advantage(3) + "}]}";
  for (const char* loss_type : {"dapo", "grpo", "dr_grpo"}) {
    SCOPED_TRACE(loss_type);
    Config masked = config(Method::kGrpo, loss_type);
    masked.loss.mask_truncated_completions = true;
    const Stepped got = step(masked, two), wanted = step(config(Method::kGrpo, loss_type), by_hand);
    const double size = wanted.gradient.norm().item<double>();
    EXPECT_LT((got.gradient - wanted.gradient).norm().item<double>(), 1e-5 * size);
    EXPECT_GT(size, 0.01);
    EXPECT_EQ(got.metrics.at("completions/max_length"), 16) << "lengths are those that were sampled";
    EXPECT_DOUBLE_EQ(got.metrics.at("completions/clipped_ratio"), 1.0 / 3);
    const Stepped all = step(config(Method::kGrpo, loss_type), two);
    EXPECT_GT((got.gradient - all.gradient).norm().item<double>(), 0.1 * size);
  }
}

TEST_F(Truncated, AStepWhoseRolloutsWereAllCutLearnsNothing) {
  Config masked = config(Method::kGrpo);
  masked.loss.mask_truncated_completions = true;
  masked.pack.verify_steps = 1;
  const Stepped nothing =
      step(masked, R"({"prompt":"a","completions":["bcd","be"],"rewards":[0,1],"truncated":[true,true]})");
  EXPECT_EQ(nothing.metrics.at("loss"), 0);
  EXPECT_EQ(nothing.metrics.at("grad_norm"), 0);
  EXPECT_EQ(nothing.metrics.at("completions/mean_terminated_length"), 0);
}

}  // namespace
}  // namespace fpdist::trainer
