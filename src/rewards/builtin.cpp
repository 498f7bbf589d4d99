#include "src/rewards/builtin.hpp"

#include <regex.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/rewards/answers.hpp"
#include "src/rewards/shape.hpp"

namespace fpdist::rewards {
namespace {

/// What a reward knows beside the completion.
struct Rule {
  const RewardOptions& options;
  int64_t max_completion_length;
};

using OneReward = std::function<std::optional<double>(const JudgedText&)>;
using MakeReward = OneReward(const Rule& rule);

/// Of a completion and the row's answer.
template <typename Compare>
OneReward with_answer(Compare compare) {
  return [compare](const JudgedText& one) -> std::optional<double> {
    if (!one.answer) return std::nullopt;
    return compare(one.text, *one.answer) ? 1.0 : 0.0;
  };
}

OneReward exact(const Rule&) {
  return with_answer([](std::string_view text, std::string_view answer) { return trimmed(text) == trimmed(answer); });
}
OneReward contains(const Rule&) {
  return with_answer([](std::string_view text, std::string_view answer) {
    return text.find(trimmed(answer)) != std::string_view::npos;
  });
}

/// The number that an answer of GSM8K ends in, or is.
std::optional<std::string> number_of(std::string_view answer) {
  const auto marked = marked_number(answer);
  return marked ? marked : decimal(answer);
}
bool is_number_of(const std::optional<std::string>& found, std::string_view answer) {
  return found && found == number_of(answer);
}
OneReward gsm8k(const Rule&) {
  return with_answer(
      [](std::string_view text, std::string_view answer) { return is_number_of(marked_number(text), answer); });
}
OneReward gsm8k_flexible(const Rule&) {
  return with_answer(
      [](std::string_view text, std::string_view answer) { return is_number_of(last_number(text), answer); });
}

OneReward boxed_answer(const Rule&) {
  return with_answer([](std::string_view text, std::string_view answer) {
    const auto found = boxed(text);
    return found && normal_expression(*found) == normal_expression(boxed(answer).value_or(answer));
  });
}

struct FreeRegex {
  void operator()(regex_t* compiled) const {
    ::regfree(compiled);
    delete compiled;
  }
};

OneReward regex(const Rule& rule) {
  check<ConfigError>(!rule.options.pattern.empty(),
                     "reward.functions has regex: say what it looks for in reward.pattern");
  auto compiled = std::make_unique<regex_t>();
  const int error = ::regcomp(compiled.get(), rule.options.pattern.c_str(), REG_EXTENDED | REG_NOSUB);
  if (error != 0) {
    std::array<char, 256> words{};
    ::regerror(error, compiled.get(), words.data(), words.size());
    throw ConfigError(text("reward.pattern '", rule.options.pattern, "' is no expression: ", words.data()));
  }
  const std::shared_ptr<regex_t> pattern(compiled.release(), FreeRegex());
  return [pattern](const JudgedText& one) -> std::optional<double> {
    std::string whole = one.text;
    std::replace(whole.begin(), whole.end(), '\0', ' ');  // would be its end
    return ::regexec(pattern.get(), whole.c_str(), 0, nullptr, 0) == 0 ? 1.0 : 0.0;
  };
}

OneReward format(const Rule&) {
  return [](const JudgedText& one) -> std::optional<double> { return has_think_format(one.text) ? 1.0 : 0.0; };
}

OneReward length(const Rule& rule) {
  const int64_t longest = rule.max_completion_length, cache = rule.options.soft_punish_cache;
  check<ConfigError>(cache <= longest, "reward.soft_punish_cache is ", cache,
                     ", more than the longest completion has tokens (", longest,
                     "): lower it, or raise rollout.max_completion_length");
  return [longest, cache](const JudgedText& one) -> std::optional<double> {
    return overlong(static_cast<int64_t>(one.token.size()), longest, cache);
  };
}

OneReward repeated(const Rule& rule) {
  return [size = rule.options.ngram_size, most = rule.options.max_penalty](
             const JudgedText& one) -> std::optional<double> { return repetition(one.text, size, most); };
}

struct Known {
  std::string_view name;
  MakeReward* make;
  bool is_check;
};
constexpr std::array kKnown{Known{"exact", exact, true},         Known{"contains", contains, true},
                            Known{"gsm8k", gsm8k, true},         Known{"gsm8k_flexible", gsm8k_flexible, true},
                            Known{"boxed", boxed_answer, true},  Known{"regex", regex, true},
                            Known{"format", format, false},      Known{"length", length, false},
                            Known{"repetition", repeated, false}};

const Known* find(std::string_view name) {
  const auto found = std::find_if(kKnown.begin(), kKnown.end(), [&](const Known& known) { return known.name == name; });
  return found == kKnown.end() ? nullptr : &*found;
}

}  // namespace

bool is_builtin(std::string_view name) { return find(name) != nullptr; }
bool is_check(std::string_view name) {
  const Known* known = find(name);
  return known != nullptr && known->is_check;
}

std::string_view builtin_names() {
  static const std::string names = [] {
    std::string all;
    for (const Known& known : kKnown) all += text(all.empty() ? "" : " | ", known.name);
    return all;
  }();
  return names;
}

RewardFunction make_builtin(std::string_view name, const RewardOptions& options, int64_t max_completion_length) {
  const Known* known = find(name);
  check<ConfigError>(known != nullptr, "reward.functions has '", name, "'; built in are ", builtin_names());
  return [judge = known->make({options, max_completion_length})](std::span<const JudgedText> texts) {
    Values values;
    for (const JudgedText& one : texts) values.push_back(judge(one));
    return values;
  };
}

}  // namespace fpdist::rewards
