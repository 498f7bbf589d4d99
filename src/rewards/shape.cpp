#include "src/rewards/shape.hpp"

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::rewards {
namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  bool is_inside = false;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isspace(byte)) {
      is_inside = false;
      continue;
    }
    if (!is_inside) words.emplace_back();
    is_inside = true;
    words.back() += static_cast<char>(std::tolower(byte));
  }
  return words;
}

}  // namespace

bool has_think_format(std::string_view text) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  if (!text.starts_with(kOpen)) return false;
  text.remove_prefix(kOpen.size());
  return text.find(kOpen) == std::string_view::npos && text.find(kClose) != std::string_view::npos;
}

double overlong(int64_t tokens, int64_t longest, int64_t cache) {
  const auto over = static_cast<double>(tokens - (longest - cache));
  return -std::clamp(over / static_cast<double>(cache), 0.0, 1.0);
}

double repetition(std::string_view text, int64_t ngram_size, double most) {
  const std::vector<std::string> words = words_of(text);
  const size_t n = index(ngram_size);
  if (words.size() < n) return 0;
  std::set<std::string> seen;
  const size_t count = words.size() - n + 1;
  for (size_t begin = 0; begin < count; ++begin) {
    std::string ngram;
    for (size_t i = begin; i < begin + n; ++i) ngram += words[i] + '\n';
    seen.insert(std::move(ngram));
  }
  return most * (1 - static_cast<double>(seen.size()) / static_cast<double>(count));
}

}  // namespace fpdist::rewards
