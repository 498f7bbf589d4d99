// The page of fpdist_prepare --html.

#include <algorithm>
#include <array>
#include <sstream>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/main/page/page.hpp"
#include "src/main/prepare/data_report.hpp"

namespace fpdist::main_program {
namespace {

constexpr double kWidth = 560, kHeight = 200, kBottom = 24, kTop = 18;
constexpr int kBars = 40;
constexpr const char* kStyle = R"(
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 22px 40px; }
.pictures svg { width: 100%; height: auto; }
.pictures h3 { font-size: 15px; margin: 0; font-weight: 600; }
.pictures p { color: var(--faint); font-size: 13px; margin: 2px 0 6px; }
.bar:hover { opacity: .75; }
.sharing { display: grid; grid-template-columns: max-content 1fr max-content; gap: 8px 14px; align-items: center; max-width: 900px; }
.sharing i { display: block; height: 16px; border-radius: 3px; background: var(--c0); min-width: 3px; }
.sharing b { font-variant-numeric: tabular-nums; font-weight: 600; }
.prefixes th:last-child { text-align: left; }
.prefixes td:last-child { text-align: left; white-space: pre-wrap; font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.prefixes td { vertical-align: top; }
)";

/// 1,234,567
std::string grouped(int64_t count) {
  std::string digits = text(count);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), 1, ',');
  return digits;
}

void write_tiles(std::ostream& out, const DataReport& report) {
  const double learned = static_cast<double>(report.targets) / static_cast<double>(std::max<int64_t>(1, report.tokens));
  const auto tile = [&](const std::string& value, const std::string& words) {
    out << "<div class=\"tile\"><b>" << value << "</b><span>" << words << "</span></div>\n";
  };
  out << "<div class=\"tiles\">\n";
  tile(grouped(report.groups), "groups");
  tile(grouped(report.samples), "samples");
  tile(grouped(report.tokens), "tokens");
  tile(percent(learned), "of them learned");
  tile(number("%.2fx", report.sharing_groups), "shared inside groups");
  tile(number("%.2fx", report.sharing_all), "shared over all data");
  for (const auto& [count, words] : {std::pair(report.dropped, "rows dropped"),
                                     {report.cut, "samples cut"},
                                     {report.differing_prompts, "prompts with other tokens alone"}})
    if (count > 0) tile(grouped(count), words);
  out << "</div>\n";
}

void write_sharing(std::ostream& out, const DataReport& report) {
  const std::array<std::pair<const char*, double>, 4> rows{{{"inside groups", report.sharing_groups},
                                                            {"a shuffled step", report.sharing_shuffled},
                                                            {"a step by prefix", report.sharing_by_prefix},
                                                            {"over all data", report.sharing_all}}};
  double most = 1;
  for (const auto& [words, ratio] : rows) most = std::max(most, ratio);
  out << "<h2>Sharing to expect</h2>\n<p class=\"sub\">Tokens of the samples over tokens that are computed: 1 is no "
         "sharing. Steps are the first of an epoch, 16 at most; by prefix: <code>data.batching: prefix</code>.</p>\n"
         "<div class=\"sharing\">\n";
  for (const auto& [words, ratio] : rows)
    out << "<span>" << words << "</span><i style=\"width:" << number("%.2f", 100 * ratio / most) << "%\"></i><b>"
        << number("%.2fx", ratio) << "</b>\n";
  out << "</div>\n";
}

void write_histogram(std::ostream& out, const Lengths& lengths, size_t colour) {
  const std::vector<Bar> bars = histogram(lengths, kBars);
  int64_t highest = 1;
  for (const Bar& bar : bars) highest = std::max(highest, bar.count);
  const double width = kWidth / static_cast<double>(bars.size()), floor = kHeight - kBottom;
  out << "<div><h3>" << lengths.of << "</h3><p>mean " << number("%.1f", lengths.mean()) << ", half up to "
      << grouped(lengths.quantile(0.5)) << ", 95 % up to " << grouped(lengths.quantile(0.95)) << ", longest "
      << grouped(lengths.sorted.back()) << "</p>\n<svg viewBox=\"0 0 " << kWidth << ' ' << kHeight << "\">\n";
  for (size_t i = 0; i < bars.size(); ++i) {
    const double height = (floor - kTop) * static_cast<double>(bars[i].count) / static_cast<double>(highest);
    const bool is_one = bars[i].to == bars[i].from + 1;
    out << "<rect class=\"bar\" fill=\"" << curve_colour(colour) << "\" x=\""
        << number("%.2f", width * static_cast<double>(i)) << "\" y=\"" << number("%.2f", floor - height)
        << "\" width=\"" << number("%.2f", std::max(1.0, width - 1)) << "\" height=\"" << number("%.2f", height)
        << "\"><title>" << grouped(bars[i].count) << " of " << grouped(bars[i].from)
        << (is_one ? "" : text(" to ", grouped(bars[i].to - 1))) << " tokens</title></rect>\n";
  }
  out << "<path d=\"M0 " << floor << 'H' << kWidth << "\" stroke=\"var(--line)\"/>\n<text x=\"0\" y=\"" << kHeight - 6
      << "\">" << grouped(lengths.sorted.front()) << "</text><text text-anchor=\"end\" x=\"" << kWidth << "\" y=\""
      << kHeight - 6 << "\">" << grouped(lengths.sorted.back()) << "</text><text x=\"0\" y=\"12\">" << grouped(highest)
      << "</text></svg></div>\n";
}

void write_prefixes(std::ostream& out, const DataReport& report) {
  if (report.largest.empty()) return;
  out << "<h2>Largest shared prefixes</h2>\n<div class=\"wide\"><table "
         "class=\"prefixes\"><tr><th>tokens</th><th>samples</th>"
         "<th>tokens saved</th><th>beginning and end</th></tr>\n";
  for (const SharedPrefix& one : report.largest)
    out << "<tr><td>" << grouped(one.tokens) << "</td><td>" << grouped(one.samples) << "</td><td>" << grouped(one.saved)
        << "</td><td>" << escaped(one.text) << "</td></tr>\n";
  out << "</table></div>\n";
}

}  // namespace

std::string report_html(const DataReport& report) {
  std::ostringstream out;
  out << page_head("fpdist data", kStyle)
      << "<h1>Data</h1>\n<p class=\"sub\">As fpdist_train will see them, in tokens.</p>\n";
  write_tiles(out, report);
  write_sharing(out, report);
  out << "<h2>Lengths in tokens</h2>\n<div class=\"pictures\">\n";
  for (size_t i = 0; i < report.lengths.size(); ++i) write_histogram(out, report.lengths[i], i);
  out << "</div>\n";
  write_prefixes(out, report);
  out << "<h2>In words</h2>\n<pre>" << escaped(report_text(report)) << "</pre>\n" << page_end();
  return out.str();
}

}  // namespace fpdist::main_program
