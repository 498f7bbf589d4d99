#include "src/config/keys.hpp"
#include "src/config/names.hpp"
#include "src/config/yaml.hpp"
#include "tests/config/config_file.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::config {
namespace {

using test::ConfigFile, test::expect_words, test::refusal_of;

class CommandLineTest : public ::testing::Test {
 protected:
  CommandLine parse(std::vector<std::string> more) {
    more.insert(more.begin(), file_.path());
    return parse_command_line(more);
  }
  std::string error(std::vector<std::string> more) {
    more.insert(more.begin(), file_.path());
    return refusal_of(more);
  }
  ConfigFile file_{
      "model: { preset: tiny }\ndata: { path: [f.jsonl, g.jsonl], columns: { a: b } }\ntrain: { max_steps: 5 }\n"};
};

TEST_F(CommandLineTest, OverridesTheFileAndTheLastValueWins) {
  const auto config =
      parse({"--train.max_steps", "6", "--train.max-steps=7", "--parallel.dp", "-1", "--method", "dpo"}).config;
  EXPECT_EQ(config.train.max_steps, 7);
  EXPECT_EQ(config.parallel.dp, -1);
  EXPECT_EQ(config.method, Method::kDpo);
  EXPECT_EQ(parse({}).config.train.max_steps, 5);
}

TEST_F(CommandLineTest, BooleansHaveAllTheirSpellings) {
  EXPECT_FALSE(parse({"--no-data.shuffle"}).config.data.shuffle);
  EXPECT_FALSE(parse({"--no_pack.share-prefix"}).config.pack.share_prefix);
  EXPECT_FALSE(parse({"--data.shuffle=false"}).config.data.shuffle);
  EXPECT_FALSE(parse({"--data.shuffle", "false"}).config.data.shuffle);
  EXPECT_TRUE(parse({"--no-data.shuffle", "--data.shuffle"}).config.data.shuffle);
  expect_words(error({"--data.shuffle=yes"}), {"--data.shuffle=yes", "expected true or false, got 'yes'"});
  expect_words(error({"--no-train.seed"}), {"--no-train.seed", "--train.seed VALUE"});
  expect_words(error({"--no-data.shuffle=true"}), {"takes no value"});
}

TEST_F(CommandLineTest, ListsRepeatOrUseCommasAndReplaceTheFile) {
  using Paths = std::vector<std::string>;
  EXPECT_EQ(parse({"--data.path", "a", "--data.path", "b"}).config.data.path, (Paths{"a", "b"}));
  EXPECT_EQ(parse({"--data.path=a,b"}).config.data.path, (Paths{"a", "b"}));
  EXPECT_EQ(parse({}).config.data.path, (Paths{"f.jsonl", "g.jsonl"}));
  const auto columns = parse({"--data.columns", "x=y,u=v", "--data.columns=k=w"}).config.data.columns;
  EXPECT_EQ(columns, (std::map<std::string, std::string>{{"x", "y"}, {"u", "v"}, {"k", "w"}}));
  expect_words(error({"--data.columns", "x"}), {"expected ours=theirs, got 'x'"});
}

TEST_F(CommandLineTest, FlagsAreNotedAndHelpAsksForNothing) {
  EXPECT_TRUE(parse({"--plan"}).plan);
  EXPECT_TRUE(parse({"--print-config"}).print_config);
  EXPECT_TRUE(parse({"--quiet"}).quiet);
  EXPECT_TRUE(parse_command_line({"--help"}).help);
  EXPECT_TRUE(parse_command_line({"-h", "--nonsense"}).help);
  EXPECT_EQ(parse_command_line({"--config", file_.path()}).config.train.max_steps, 5);
  EXPECT_EQ(parse_command_line({"--config=" + file_.path()}).config.train.max_steps, 5);
  EXPECT_EQ(parse_command_line({"--model.preset", "tiny", "--data.path", "a"}).config.data.path.size(), 1u);
}

TEST_F(CommandLineTest, ErrorsNameTheArgument) {
  expect_words(error({"--train.max_step", "3"}), {"--train.max_step: unknown key", "train.max_steps?"});
  expect_words(error({"--per_device_train_batch_size=3"}), {"it is train.groups_per_step here: the sum over devices"});
  expect_words(error({"--train.seed"}), {"--train.seed: needs a value"});
  expect_words(error({"--train.seed", "--plan"}), {"--train.seed: needs a value"});
  expect_words(error({"--config"}), {"--config: needs a value"});
  expect_words(error({"--plan=1"}), {"--plan takes no value"});
  expect_words(error({"-x"}), {"'-x'", "two dashes"});
  expect_words(error({""}), {"''", "two dashes"});
  expect_words(error({"second.yaml"}), {"second.yaml", "a second configuration file"});
  expect_words(error({"--train.max_steps", "1.5"}), {"--train.max_steps: expected an integer, got '1.5'"});
  expect_words(error({"--train.seed", "x", "--optim.lr", "1"}), {"--train.seed", "it is optim.learning_rate here"});
}

TEST_F(CommandLineTest, AWrongFlagIsOneErrorWhateverFollows) {
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"--num_epochs", "3"}, {"--num_epochs=3"}, {"--num_epochs"}, {"--num_epochs", "3", "--plan"}})
    EXPECT_EQ(error(more), more[0] + ": unknown key 'num_epochs'; it is train.num_train_epochs here");
  EXPECT_EQ(refusal_of({"--num_epochs", file_.path()}),
            "--num_epochs: unknown key 'num_epochs'; it is train.num_train_epochs here");
}

TEST_F(CommandLineTest, TheLearningRateIsTheMethodsWhereNobodySaysIt) {
  for (const auto& [method, rate] : {std::pair("sft", 2e-5), {"dpo", 1e-6}, {"reward", 1e-4}, {"grpo", 1e-6}}) {
    const CommandLine line = parse({"--method", method});
    EXPECT_EQ(line.config.optim.learning_rate, rate) << method;
    ASSERT_EQ(line.chosen.size(), 1U);
    expect_words(line.chosen[0], {"optim.learning_rate is ", std::string("the default of method ") + method});
  }
  const CommandLine given = parse({"--optim.learning_rate", "3e-4"});
  EXPECT_EQ(given.config.optim.learning_rate, 3e-4);
  EXPECT_TRUE(given.chosen.empty());
  const ConfigFile in_file("model: { preset: tiny }\ndata: { path: f }\noptim: { learning_rate: 5e-4 }\n");
  EXPECT_EQ(parse_command_line({in_file.path()}).config.optim.learning_rate, 5e-4);
}

TEST_F(CommandLineTest, OtherSystemsDtypesAreUnderstoodAndFloat16IsRefused) {
  EXPECT_EQ(parse({"--model.dtype", "bf16", "--train.final_dtype", "fp32"}).config.model.dtype, DType::kBFloat16);
  EXPECT_EQ(parse({"--train.final_dtype", "fp32"}).config.train.final_dtype, "float32");
  EXPECT_EQ(parse({"--method", "rm"}).config.method, Method::kReward);
  for (const char* name : {"fp16", "float16", "half"})
    expect_words(error({"--model.dtype", name}), {name, "loss scaling", "use bfloat16"});
}

TEST_F(CommandLineTest, HelpHasTopics) {
  EXPECT_EQ(parse_command_line({"--help", "data"}).topic, "data");
  EXPECT_EQ(parse_command_line({"-h", "train.seed"}).topic, "train.seed");
  EXPECT_EQ(parse_command_line({"--help", "mine.yaml"}).topic, "");
  EXPECT_TRUE(parse_command_line({"--version", "--nonsense"}).version);
  const std::string data = help_text("data"), seed = help_text("train.seed");
  expect_words(data, {"--data.max_length (1024)", "example:  data: {"});
  EXPECT_EQ(data.find("--train.seed"), std::string::npos);
  expect_words(seed, {"--train.seed (0)\n      order of the data"});
  EXPECT_EQ(seed.find("--train.max_steps"), std::string::npos);
  expect_words(test::error_of<ConfigError>([] { help_text("dta"); }), {"--help dta: there is no such section"});
  EXPECT_EQ(help_text().find("(1e-06)"), std::string::npos);
}

TEST_F(CommandLineTest, ExamplesOfHelpCanBeRead) {
  std::istringstream lines(help_text());
  const std::string mark = "  example:  ";
  int examples = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(mark)) continue;
    Config any;
    const ConfigFile file(line.substr(mark.size()) + "\n");
    EXPECT_EQ(read_yaml(file.path(), any), std::vector<std::string>()) << line;
    ++examples;
  }
  EXPECT_EQ(examples, 14);
}

TEST_F(CommandLineTest, NamesOfOtherTrainersLeadToKeysThatAreThere) {
  std::istringstream lines(help_text("names"));
  std::string line;
  std::getline(lines, line);
  int names = 0;
  while (std::getline(lines, line)) {
    ++names;
    const std::string theirs = line.substr(2, line.find(": ") - 2);
    EXPECT_EQ(find_key(theirs) == nullptr, true) << theirs << " is ours";
    expect_words(unknown_key(theirs), {"unknown key '" + theirs + "'; " + line.substr(line.find(": ") + 2)});
    const std::string is = ": it is ";
    if (const size_t at = line.find(is); at != std::string::npos) {
      const size_t begin = at + is.size();
      EXPECT_NE(find_key(line.substr(begin, line.find(" here", begin) - begin)), nullptr) << line;
    }
  }
  EXPECT_GT(names, 250);
  expect_words(unknown_key("parallelism.tensor_parallel_degree"), {"it is parallel.tp here"});
  expect_words(unknown_key("packing"), {"not needed: packs replace it"});
  expect_words(unknown_key("rollout.flex_prefill"), {"not for rollouts"});
  expect_words(unknown_key("rollout.kv_profile"), {"not for rollouts"});
  expect_words(unknown_key("kv_profile"), {"it is eval.kv_profile here"});
  expect_words(unknown_key("rollout.kv_budget"), {"flex_prefill and eval.kv_budget are for evaluations"});
  expect_words(unknown_key("lora_dropout"), {"it is adapter.lora_dropout here"});
  expect_words(unknown_key("lora_r"), {"it is adapter.r here"});
}

TEST_F(CommandLineTest, HelpNamesEveryKeyOfTheEcho) {
  const Config defaults;
  const std::string help = help_text(), echo = to_yaml(defaults);
  std::string section, line;
  std::istringstream lines(echo);
  int keys = 0;
  while (std::getline(lines, line)) {
    const std::string name = line.substr(line.find_first_not_of(' '), line.find(':') - line.find_first_not_of(' '));
    if (line.back() == ':')
      section = name + ".";
    else
      expect_words(help, {"--" + (line[0] == ' ' ? section : "") + name + " ("}), ++keys;
  }
  EXPECT_EQ(static_cast<size_t>(keys), config::keys().size());
}

}  // namespace
}  // namespace fpdist::config
