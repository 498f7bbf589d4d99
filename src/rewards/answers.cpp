#include "src/rewards/answers.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace fpdist::rewards {
namespace {

constexpr size_t kFlexibleCharacters = 300;
constexpr std::string_view kBlanks = " \t\r\n";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The number that begins at `at`, as long as it goes: -$1,234.50.
std::string_view number_at(std::string_view text, size_t at) {
  size_t end = at;
  if (end < text.size() && (text[end] == '-' || text[end] == '+')) ++end;
  if (end < text.size() && text[end] == '$') ++end;
  bool has_digit = false, has_dot = false;
  for (; end < text.size(); ++end) {
    const char c = text[end];
    const bool goes_on = end + 1 < text.size() && is_digit(text[end + 1]);
    if (is_digit(c))
      has_digit = true;
    else if (c == '.' && !has_dot && goes_on)
      has_dot = true;
    else if (c != ',' || !has_digit || has_dot || !goes_on)
      break;
  }
  return has_digit ? text.substr(at, end - at) : std::string_view();
}

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

/// Where the brace that opens at `open` closes; npos: nowhere.
size_t closing(std::string_view text, size_t open) {
  int64_t depth = 0;
  for (size_t at = open; at < text.size(); ++at) {
    depth += text[at] == '{';
    depth -= text[at] == '}';
    if (depth == 0) return at;
  }
  return std::string_view::npos;
}

/// \text{...} and the like by what they hold; a unit behind a number goes.
void open_texts(std::string& text) {
  for (const std::string_view command : {"\\text{", "\\mbox{", "\\textbf{", "\\mathrm{"})
    for (size_t at = text.find(command); at != std::string::npos; at = text.find(command, at)) {
      const size_t open = at + command.size() - 1, end = closing(text, open);
      if (end == std::string::npos) break;
      const std::string inside = at > 0 && is_digit(text[at - 1]) ? "" : text.substr(open + 1, end - open - 1);
      text.replace(at, end - at + 1, inside);
    }
}

/// \frac12, \frac1{2}, \sqrt2 with braces.
void brace_arguments(std::string& text, std::string_view command, int arguments) {
  for (size_t at = text.find(command); at != std::string::npos; at = text.find(command, at)) {
    at += command.size();
    for (int i = 0; i < arguments && at < text.size(); ++i) {
      if (text[at] == '{') {
        const size_t end = closing(text, at);
        if (end == std::string::npos) return;
        at = end + 1;
      } else if (text[at] != '[' && text[at] != '\\') {
        const std::string braced{'{', text[at], '}'};
        text.replace(at, 1, braced);
        at += 3;
      }
    }
  }
}

/// 1/2 as a fraction, where nothing else stands around it.
void write_fraction(std::string& text) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos || text.find('/', slash + 1) != std::string::npos) return;
  const std::string above = text.substr(0, slash), below = text.substr(slash + 1);
  const auto is_whole = [](std::string_view part) {
    if (part.starts_with('-')) part.remove_prefix(1);
    return !part.empty() && std::all_of(part.begin(), part.end(), is_digit);
  };
  if (is_whole(above) && is_whole(below))
    text = std::string("\\frac{").append(above).append("}{").append(below).append("}");
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

std::optional<std::string> decimal(std::string_view text) {
  text = trimmed(text);
  if (text.ends_with('.') || text.ends_with('%')) text.remove_suffix(1);
  const std::string_view found =
      text.starts_with('$') && text.size() > 1 && text[1] == '-' ? number_at(text, 1) : number_at(text, 0);
  const size_t skipped = text.size() - found.size();
  if (found.empty() || skipped > 1 || (skipped == 1 && text[0] != '$')) return std::nullopt;
  std::string whole, fraction;
  bool is_behind_dot = false;
  for (const char c : found) {
    if (c == '.') is_behind_dot = true;
    if (is_digit(c)) (is_behind_dot ? fraction : whole) += c;
  }
  whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
  fraction.erase(fraction.find_last_not_of('0') + 1);
  if (whole.empty()) whole.push_back('0');
  const bool is_negative = found.front() == '-' && (whole != "0" || !fraction.empty());
  std::string spelled(is_negative ? "-" : "");
  spelled += whole;
  if (!fraction.empty()) spelled.append(1, '.').append(fraction);
  return spelled;
}

std::optional<std::string> marked_number(std::string_view text) {
  const size_t mark = text.rfind("####");
  if (mark == std::string_view::npos) return std::nullopt;
  text.remove_prefix(mark + 4);
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return std::nullopt;
  const std::string_view number = number_at(text, begin);
  return number.empty() ? std::nullopt : decimal(number);
}

std::optional<std::string> last_number(std::string_view text) {
  if (text.size() > kFlexibleCharacters) text.remove_prefix(text.size() - kFlexibleCharacters);
  std::optional<std::string> last;
  for (size_t at = 0; at < text.size();) {
    const std::string_view number = number_at(text, at);
    if (!number.empty()) last = decimal(number);
    at += std::max<size_t>(1, number.size());
  }
  return last;
}

std::optional<std::string_view> boxed(std::string_view text) {
  size_t at = std::string_view::npos, size = 0;
  for (const std::string_view command : {"\\boxed{", "\\fbox{"}) {
    const size_t last = text.rfind(command);
    if (last == std::string_view::npos || (at != std::string_view::npos && last < at)) continue;
    at = last, size = command.size();
  }
  if (at == std::string_view::npos) return std::nullopt;
  const size_t open = at + size - 1, end = closing(text, open);
  if (end == std::string_view::npos) return std::nullopt;
  return text.substr(open + 1, end - open - 1);
}

std::string normal_expression(std::string_view given) {
  std::string text(trimmed(given));
  constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kReplaced{{{"\\left", ""},
                                                                                     {"\\right", ""},
                                                                                     {"\\!", ""},
                                                                                     {"\\,", ""},
                                                                                     {"\\;", ""},
                                                                                     {"\\ ", ""},
                                                                                     {"\\$", ""},
                                                                                     {"$", ""},
                                                                                     {"\\%", ""},
                                                                                     {"%", ""},
                                                                                     {"^{\\circ}", ""},
                                                                                     {"^\\circ", ""},
                                                                                     {"\\dfrac", "\\frac"},
                                                                                     {"\\tfrac", "\\frac"},
                                                                                     {"\n", ""},
                                                                                     {"\t", ""}}};
  for (const auto& [what, by] : kReplaced) replace_all(text, what, by);
  std::string compact;  // blanks go first: a unit stands behind one
  std::copy_if(text.begin(), text.end(), std::back_inserter(compact), [](char c) { return c != ' '; });
  open_texts(compact);
  if (compact.ends_with('.')) compact.pop_back();
  if (const size_t equals = compact.find('='); equals != std::string::npos && equals <= 2) compact.erase(0, equals + 1);
  brace_arguments(compact, "\\frac", 2);
  brace_arguments(compact, "\\sqrt", 1);
  write_fraction(compact);
  return decimal(compact).value_or(compact);
}

}  // namespace fpdist::rewards
