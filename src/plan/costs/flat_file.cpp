#include "src/plan/costs/flat_file.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"

namespace fpdist::plan {
namespace {

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

}  // namespace

void parse_flat(const std::string& text_of_file, const std::string& name,
                const std::function<void(std::string_view, std::string_view, const std::string&)>& set) {
  std::set<std::string, std::less<>> seen;
  std::istringstream lines(text_of_file);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string_view content = trimmed(std::string_view(line).substr(0, line.find('#')));
    if (content.empty()) continue;
    const std::string place = text(name, ":", number, ": ");
    const size_t colon = content.find(':');
    check<ConfigError>(colon != std::string_view::npos, place, "expected 'key: value'");
    const std::string_view key = trimmed(content.substr(0, colon));
    check<ConfigError>(seen.emplace(key).second, place, "'", key, "' is given twice");
    set(key, trimmed(content.substr(colon + 1)), place);
  }
}

std::string read_flat(const std::string& path, std::string_view what, std::string_view cure) {
  std::ifstream file(path, std::ios::binary);
  check<ConfigError>(file.is_open(), path, ": cannot open the ", what, " (", std::strerror(errno), looked_in(path),
                     "): ", cure);
  std::ostringstream all;
  all << file.rdbuf();
  return all.str();
}

}  // namespace fpdist::plan
