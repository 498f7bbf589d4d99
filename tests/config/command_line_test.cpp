#include "src/config/keys.hpp"
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
  expect_words(error({"--per_device_train_batch_size=3"}), {"train.groups_per_step?"});
  expect_words(error({"--train.seed"}), {"--train.seed: needs a value"});
  expect_words(error({"--train.seed", "--plan"}), {"--train.seed: needs a value"});
  expect_words(error({"--config"}), {"--config: needs a value"});
  expect_words(error({"--plan=1"}), {"--plan takes no value"});
  expect_words(error({"-x"}), {"'-x'", "two dashes"});
  expect_words(error({""}), {"''", "two dashes"});
  expect_words(error({"second.yaml"}), {"second.yaml", "a second configuration file"});
  expect_words(error({"--train.max_steps", "1.5"}), {"--train.max_steps: expected an integer, got '1.5'"});
  expect_words(error({"--train.seed", "x", "--optim.lr", "1"}), {"--train.seed", "optim.learning_rate?"});
}

TEST_F(CommandLineTest, HelpNamesEveryKeyOfTheEcho) {
  const std::string help = help_text(), echo = to_yaml({});
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
