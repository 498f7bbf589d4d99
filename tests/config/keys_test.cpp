#include "src/config/keys.hpp"

#include <set>

#include "src/config/yaml.hpp"
#include "tests/config/config_file.hpp"
#include "tests/support/config/change.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::config {
namespace {

using test::change, test::ConfigFile, test::expect_words;

/// What a file with the text of `from` makes of `onto`.
std::string read_over(const std::string& from, Config onto) {
  const ConfigFile file(from);
  EXPECT_EQ(read_yaml(file.path(), onto), std::vector<std::string>());
  return to_yaml(onto);
}

TEST(Keys, EveryDefaultReadsBackOverAnotherValueAndEveryOtherValueOverTheDefault) {
  const std::string defaults = to_yaml(Config());
  Config all_changed;
  for (const ConfigKey& key : keys()) {
    SCOPED_TRACE(key.name);
    Config changed;
    change(key.field(changed));
    change(key.field(all_changed));
    const std::string echo = to_yaml(changed);
    EXPECT_NE(echo, defaults);
    EXPECT_EQ(read_over(defaults, changed), defaults);
    EXPECT_EQ(read_over(echo, Config()), echo);
  }
  EXPECT_EQ(read_over(defaults, all_changed), defaults);
}

TEST(Keys, AreNamedOnceAndSayWhatTheyMean) {
  std::set<std::string> names;
  for (const ConfigKey& key : keys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name;
    EXPECT_EQ(find_key(key.name), &key);
    EXPECT_FALSE(key.key->meaning.empty()) << key.name;
    EXPECT_FALSE(values_of(key).empty()) << key.name;
  }
}

TEST(Keys, EveryRangeIsChecked) {
  Config config;
  for (const ConfigKey& key : keys()) {
    if (!key.key->valid.accepts) continue;
    SCOPED_TRACE(key.name);
    Config spoiled = config;
    EXPECT_EQ(complaints_of(*key.key, key.options(spoiled)), Complaints());
    std::visit(
        [](const auto& of) {
          using Value = std::remove_pointer_t<std::remove_cvref_t<decltype(of)>>;
          if constexpr (std::is_arithmetic_v<Value>) *of = static_cast<Value>(-2);
        },
        key.field(spoiled));
    expect_words(test::error_of<ConfigError>([&] { validate(spoiled); }),
                 {key.name + " is -2; it must be " + std::string(key.key->valid.must)});
  }
}

}  // namespace
}  // namespace fpdist::config
