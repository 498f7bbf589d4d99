#include <algorithm>
#include <iomanip>
#include <sstream>

#include "fpdist/plan/schedule.hpp"
#include "src/main/plan_report.hpp"

namespace fpdist::main_program {
namespace {

constexpr const char* kHead = R"(<!doctype html><html lang="en"><meta charset="utf-8"><title>fpdist plan</title>
<style>body{font:14px sans-serif;margin:24px}pre{background:#f4f4f4;padding:12px}svg{display:block;background:#fafafa;font-size:12px}
.f{fill:#4c8bf5}.b{fill:#f2a33c}.w{fill:#58a55c}rect:hover{stroke:#000}summary{margin:8px 0;cursor:pointer}
i{display:inline-block;width:12px;height:12px}</style>
)";
constexpr double kLabel = 60, kWidth = 1400, kRow = 26;

const char* css_class(plan::OpKind kind) {
  return kind == plan::OpKind::kForward ? "f" : kind == plan::OpKind::kBackwardInput ? "b" : "w";
}

void draw(std::ostringstream& out, const std::vector<plan::TimelineEvent>& events, int stages, double step) {
  out << "<svg width=\"" << kLabel + kWidth << "\" height=\"" << kRow * stages << "\">\n";
  for (int stage = 0; stage < stages; ++stage)
    out << "<text x=\"0\" y=\"" << stage * kRow + 18 << "\">stage " << stage << "</text>\n";
  for (const plan::TimelineEvent& event : events) {
    const double left = kLabel + event.begin / step * kWidth, width = (event.end - event.begin) / step * kWidth;
    out << "<rect class=\"" << css_class(event.op.kind) << "\" x=\"" << left << "\" y=\"" << event.rank * kRow + 2
        << "\" width=\"" << std::max(0.3, width - 0.3) << "\" height=\"" << kRow - 4 << "\"><title>stage " << event.rank
        << ' ' << plan::to_string(event.op) << "</title></rect>\n";
  }
  out << "</svg>\n";
}

}  // namespace

std::string to_html(const PlanRequest& request, const PlannedStep& step) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << kHead << "<h1>Planned step</h1>\n<pre>" << to_text(request, step, {})
      << "</pre>\n<p><i style=\"background:#4c8bf5\"></i> forward "
      << "<i style=\"background:#f2a33c\"></i> backward <i style=\"background:#58a55c\"></i> weight gradient; a row a "
      << "stage, the width is the step</p>\n";
  for (size_t d = 0; d < step.plan.replica.size(); ++d) {
    const plan::PlannedReplica& replica = step.plan.replica[d];
    out << "<details" << (d == 0 ? " open" : "") << "><summary>replica " << d << ": " << replica.pack.size()
        << " packs</summary>\n";
    draw(out, timeline_of(request, step.plan, d), request.options.parallel.pp, static_cast<double>(step.plan.step));
    out << "</details>\n";
  }
  out << "</html>\n";
  return out.str();
}

}  // namespace fpdist::main_program
