// The scaling page: what `--report FILE --html PAGE` draws.

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include "src/main/bench/scaling_file.hpp"
#include "src/main/page/page.hpp"

namespace fpdist::bench {
namespace {

constexpr double kWidth = 560, kHeight = 340, kLeft = 80, kBottom = 44, kTop = 24, kRight = 16;
constexpr const char* kStyle = R"(
svg { display: inline-block; margin-right: 16px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
polyline { fill: none; stroke-width: 2; }
.ideal { stroke-dasharray: 5 4; stroke-width: 1; }
.axis { stroke: var(--faint); }
)";

struct Point {
  double x, y;
};
using Series = std::map<std::string, std::vector<Point>>;

/// Ranks to the right in powers of two; the other axis linear from 0, or logarithmic.
class Drawing {
 public:
  Drawing(const Series& series, const std::string& title, bool logarithmic, double least_top)
      : series_(series), logarithmic_(logarithmic), top_(least_top) {
    for (const auto& [name, points] : series)
      for (const Point& point : points) {
        first_ = std::min(first_, point.x), last_ = std::max(last_, point.x);
        low_ = std::min(low_, point.y), top_ = std::max(top_, point.y);
      }
    if (last_ <= first_) last_ = 2 * first_;
    for (const auto& [name, points] : series)  // room for perfect scaling
      if (logarithmic_) top_ = std::max(top_, points.front().y * last_ / points.front().x);
    if (logarithmic_ && top_ <= low_) top_ = 2 * low_;
    out_ << "<svg width=\"" << kWidth << "\" height=\"" << kHeight << "\"><text x=\"" << kLeft << "\" y=\"16\">"
         << title << "</text>\n";
  }
  std::string draw(bool with_ideal) {
    axes();
    size_t index = 0;
    for (const auto& [name, points] : series_) {
      const std::string colour = main_program::curve_colour(index++);
      line(points, colour, "");
      for (const Point& p : points)
        out_ << "<circle r=\"4\" style=\"fill:" << colour << "\" cx=\"" << x(p.x) << "\" cy=\"" << y(p.y)
             << "\"><title>" << main_program::escaped(name) << ": np " << p.x << ", " << p.y << "</title></circle>\n";
      if (with_ideal && !points.empty()) {
        const Point from = points.front();
        line({from, {last_, from.y * last_ / from.x}}, colour, " class=\"ideal\"");
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
    const double part = logarithmic_ ? std::log(value / low_) / std::log(top_ / low_) : value / top_;
    return kHeight - kBottom - (kHeight - kBottom - kTop) * part;
  }
  void axes() {
    const double floor = kHeight - kBottom;
    out_ << "<path class=\"axis\" fill=\"none\" d=\"M" << kLeft << ' ' << kTop << 'V' << floor << 'H' << kWidth - kRight
         << "\"/>\n";
    for (double ranks = first_; ranks <= last_ * 1.001; ranks *= 2)
      out_ << "<text text-anchor=\"middle\" x=\"" << x(ranks) << "\" y=\"" << floor + 18 << "\">" << ranks
           << "</text>\n";
    out_ << "<text text-anchor=\"end\" x=\"" << kWidth - kRight << "\" y=\"" << floor + 36 << "\">ranks</text>\n";
    for (int i = 0; i <= 4; ++i) {
      const double part = i / 4.0, value = logarithmic_ ? low_ * std::pow(top_ / low_, part) : top_ * part;
      out_ << "<text text-anchor=\"end\" x=\"" << kLeft - 6 << "\" y=\"" << y(value) + 4 << "\">" << short_number(value)
           << "</text>\n";
    }
  }
  static std::string short_number(double value) {
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
  void line(const std::vector<Point>& points, const std::string& colour, const char* more) {
    out_ << "<polyline" << more << " style=\"stroke:" << colour << "\" points=\"";
    for (const Point& p : points) out_ << x(p.x) << ',' << y(p.y) << ' ';
    out_ << "\"/>\n";
  }

  const Series& series_;
  bool logarithmic_;
  double first_ = 1e9, last_ = 0, low_ = 1e300, top_;
  std::ostringstream out_;
};

}  // namespace

std::string scaling_page(const std::vector<Line>& lines) {
  Series tokens, efficiency;
  std::ostringstream table;
  table << title_line(scaling_columns()) << '\n';
  for (const Line& line : lines) {
    const auto ranks = line["np"].get<double>();
    tokens[series_of(line)].push_back({ranks, line["tokens_per_second"].get<double>()});
    efficiency[series_of(line)].push_back({ranks, line["efficiency"].get<double>()});
    table << value_line(scaling_columns(), line) << '\n';
  }
  std::ostringstream page;
  page << main_program::page_head("fpdist scaling", kStyle) << "<h1>Scaling</h1>\n";
  if (!lines.empty()) {
    page << Drawing(tokens, "tokens/s (dashed: perfect scaling)", true, 0).draw(true)
         << Drawing(efficiency, "efficiency against the fewest ranks", false, 1.05).draw(false);
    page << "<p>";
    size_t index = 0;
    for (const auto& [name, points] : tokens)
      page << "<span style=\"color:" << main_program::curve_colour(index++) << "\">&#9679;</span> "
           << main_program::escaped(name) << " &nbsp; ";
    page << "</p>\n";
  }
  page << "<pre>" << main_program::escaped(table.str()) << "</pre>\n" << main_program::page_end();
  return page.str();
}

}  // namespace fpdist::bench
