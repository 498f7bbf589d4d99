// The scaling page: what `--report FILE --html PAGE` draws.

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "src/main/bench/scaling_file.hpp"
#include "src/main/page/page.hpp"

namespace fpdist::bench {
namespace {

using main_program::escaped;

constexpr double kWidth = 560, kHeight = 320, kLeft = 64, kBottom = 48, kTop = 44, kRight = 20;
constexpr const char* kStyle = R"(
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); gap: 16px; }
svg { width: 100%; height: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
svg .title { font-size: 15px; fill: var(--ink); font-weight: 600; }
polyline { fill: none; stroke-width: 2; }
.ideal { stroke-dasharray: 5 4; stroke-width: 1; }
.axis { stroke: var(--faint); }
.tick { stroke: var(--line); }
circle:hover { stroke: var(--ink); stroke-width: 2; }
)";

struct Quantity {
  const char *key, *title, *unit;
  bool is_logarithmic = false;  ///< else from 0, or from what is measured to `least_top` at least
  double least_top = 0;
};
constexpr Quantity kQuantities[] = {
    {"tokens_per_second", "Throughput (logarithmic; dashed: perfect scaling)", "tokens/s", true},
    {"efficiency", "Efficiency against the fewest ranks", "1 is perfect", false, 1.05},
    {"mfu_executed", "MFU as executed", "of the peak, rows computed", false, 0.01},
    {"mfu_useful", "MFU as useful", "of the peak, every distinct token once", false, 0.01},
    {"bubble", "Pipeline bubble", "share of the step", false, 0.05},
    {"exposed_communication", "Communication that compute did not hide", "share of the ranks' time", false, 0.05}};

struct Point {
  double x, y;
  std::string mesh;
};
using Series = std::map<std::string, std::vector<Point>>;

std::string short_number(double value) {
  std::ostringstream text;
  text.precision(3);
  if (value >= 1e6)
    text << value / 1e6 << 'M';
  else if (value >= 1e3)
    text << value / 1e3 << 'k';
  else
    text << value;
  return text.str();
}

/// Round numbers from `low` to `top`: 1, 2, 5 of each power of ten, or as many as four equal steps.
std::vector<double> round_ticks(double low, double top, bool is_logarithmic) {
  std::vector<double> ticks;
  if (is_logarithmic) {
    for (double power = std::pow(10, std::floor(std::log10(low))); power <= top; power *= 10)
      for (const double digit : {1.0, 2.0, 5.0})
        if (digit * power >= low && digit * power <= top) ticks.push_back(digit * power);
    return ticks;
  }
  const double power = std::pow(10, std::floor(std::log10(top / 4)));
  double step = power;
  for (const double digit : {2.0, 5.0, 10.0})
    if (top / step > 5) step = digit * power;
  for (int64_t i = 0; static_cast<double>(i) * step <= top * 1.0001; ++i)
    ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

/// Ranks to the right in powers of two.
class Drawing {
 public:
  Drawing(const Series& series, const Quantity& quantity)
      : series_(series), quantity_(quantity), top_(quantity.least_top) {
    for (const auto& [name, points] : series)
      for (const Point& point : points) {
        first_ = std::min(first_, point.x), last_ = std::max(last_, point.x);
        low_ = std::min(low_, point.y), top_ = std::max(top_, point.y);
      }
    if (last_ <= first_) last_ = 2 * first_;
    if (!quantity.is_logarithmic) return;
    for (const auto& [name, points] : series)  // room for perfect scaling
      top_ = std::max(top_, points.front().y * last_ / points.front().x);
    low_ *= 0.9, top_ *= 1.1;
  }
  std::string draw() {
    out_ << "<svg viewBox=\"0 0 " << kWidth << ' ' << kHeight << "\"><text class=\"title\" x=\"16\" y=\"24\">"
         << escaped(quantity_.title) << "</text>\n";
    axes();
    size_t index = 0;
    for (const auto& [name, points] : series_) {
      const std::string colour = main_program::curve_colour(index++);
      line(points, colour, "");
      for (const Point& p : points)
        out_ << "<circle r=\"4\" style=\"fill:" << colour << "\" cx=\"" << x(p.x) << "\" cy=\"" << y(p.y)
             << "\"><title>" << escaped(name) << ": " << p.x << " ranks, " << escaped(p.mesh) << ": "
             << short_number(p.y) << ' ' << quantity_.unit << "</title></circle>\n";
      if (quantity_.is_logarithmic) {
        const Point& from = points.front();
        line({from, {last_, from.y * last_ / from.x, ""}}, colour, " class=\"ideal\"");
      }
    }
    out_ << "</svg>\n";
    return out_.str();
  }

 private:
  double x(double ranks) const {
    return kLeft + (kWidth - kLeft - kRight) * std::log(ranks / first_) / std::log(last_ / first_);
  }
  double y(double value) const {
    const double part = quantity_.is_logarithmic ? std::log(value / low_) / std::log(top_ / low_) : value / top_;
    return kHeight - kBottom - (kHeight - kBottom - kTop) * part;
  }
  void axes() {
    const double floor = kHeight - kBottom;
    for (const double value : round_ticks(low_, top_, quantity_.is_logarithmic))
      out_ << "<path class=\"tick\" d=\"M" << kLeft << ' ' << y(value) << 'H' << kWidth - kRight
           << "\"/><text text-anchor=\"end\" x=\"" << kLeft - 6 << "\" y=\"" << y(value) + 4 << "\">"
           << short_number(value) << "</text>\n";
    out_ << "<path class=\"axis\" fill=\"none\" d=\"M" << kLeft << ' ' << kTop << 'V' << floor << 'H' << kWidth - kRight
         << "\"/>\n";
    for (double ranks = first_; ranks <= last_ * 1.001; ranks *= 2)
      out_ << "<text text-anchor=\"middle\" x=\"" << x(ranks) << "\" y=\"" << floor + 18 << "\">" << ranks
           << "</text>\n";
    out_ << "<text text-anchor=\"end\" x=\"" << kWidth - kRight << "\" y=\"" << floor + 38
         << "\">ranks</text><text x=\"16\" y=\"" << floor + 38 << "\">" << quantity_.unit << "</text>\n";
  }
  void line(const std::vector<Point>& points, const std::string& colour, const char* more) {
    out_ << "<polyline" << more << " style=\"stroke:" << colour << "\" points=\"";
    for (const Point& p : points) out_ << x(p.x) << ',' << y(p.y) << ' ';
    out_ << "\"/>\n";
  }

  const Series& series_;
  const Quantity& quantity_;
  double first_ = 1e9, last_ = 0, low_ = 1e300, top_;
  std::ostringstream out_;
};

Series series_for(const Quantity& quantity, const std::vector<Line>& lines) {
  Series series;
  for (const Line& line : lines)
    series[series_of(line)].push_back(
        {line["np"].get<double>(), line.value(quantity.key, 0.0), line.value("mesh", "")});
  return series;
}

/// Where and when: every distinct word of the lines once.
std::string origin_of(const std::vector<Line>& lines) {
  std::string all;
  for (const char* key : {"device", "dtype", "cores", "date"}) {
    std::set<std::string> words;
    for (const Line& line : lines)
      if (line.contains(key)) words.insert(line[key].is_string() ? line[key].get<std::string>() : line[key].dump());
    if (words.empty()) continue;
    all += all.empty() ? "" : " &middot; ";
    for (const std::string& word : words) all += (word == *words.begin() ? "" : ", ") + escaped(word);
    if (std::string_view(key) == "cores") all += " cores a host";
  }
  return all;
}

}  // namespace

std::string scaling_page(const std::vector<Line>& lines) {
  std::ostringstream table, page;
  table << title_line(scaling_columns()) << '\n';
  for (const Line& line : lines) table << value_line(scaling_columns(), line) << '\n';
  page << main_program::page_head("fpdist scaling", kStyle) << "<h1>Scaling</h1>\n<p class=\"sub\">" << origin_of(lines)
       << "</p>\n";
  if (!lines.empty()) {
    page << "<div class=\"legend\">";
    size_t index = 0;
    for (const auto& [name, points] : series_for(kQuantities[0], lines))
      page << "<span><i style=\"background:" << main_program::curve_colour(index++) << "\"></i>" << escaped(name)
           << "</span>";
    page << "</div>\n<div class=\"charts\">\n";
    for (const Quantity& quantity : kQuantities) {
      const Series series = series_for(quantity, lines);
      page << Drawing(series, quantity).draw();
    }
    page << "</div>\n";
  }
  page << "<h2>In numbers</h2>\n<pre>" << escaped(table.str()) << "</pre>\n" << main_program::page_end();
  return page.str();
}

}  // namespace fpdist::bench
