#include "src/main/page/page.hpp"

#include <ctime>

#include "fpdist/core/error.hpp"
#include "src/main/page/embedded.hpp"

namespace fpdist::main_program {

std::string escaped(std::string_view words) {
  std::string safe;
  for (const char c : words) switch (c) {
      case '<':
        safe += "&lt;";
        break;
      case '&':
        safe += "&amp;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  return safe;
}

std::string page_head(std::string_view title, std::string_view more_style) {
  return text("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>", escaped(title),
              "</title>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n",
              embedded::kStyle, more_style, "</style></head><body><main>\n");
}

std::string_view page_end() { return "</main></body></html>\n"; }

std::string date_and_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char written[32] = {};
  std::strftime(written, sizeof written, "%Y-%m-%d %H:%M", &local);
  return written;
}

std::string curve_colour(size_t index) { return text("var(--c", index % 8, ")"); }

}  // namespace fpdist::main_program
