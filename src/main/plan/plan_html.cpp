#include <algorithm>
#include <iomanip>
#include <map>
#include <sstream>

#include "fpdist/plan/schedule.hpp"
#include "src/core/words.hpp"
#include "src/main/page/page.hpp"
#include "src/main/plan/plan_report.hpp"

namespace fpdist::main_program {
namespace {

constexpr const char* kStyle = R"(
.F { fill: var(--f); background: var(--f); }
.B { fill: var(--b); background: var(--b); }
.W { fill: var(--w); background: var(--w); }
i.idle { border: 1px solid var(--line); }
svg { width: 100%; min-width: 900px; height: auto; }
.verdict { margin: 0 0 18px; padding-left: 20px; }
td.why { text-align: left; max-width: 360px; color: var(--faint); font-size: 13px; }
tr.busiest td { font-weight: 600; }
text.busiest { font-weight: 700; fill: var(--ink); }
svg .in { fill: #fff; text-anchor: middle; pointer-events: none; font-size: 11px; }
rect.F:hover, rect.B:hover, rect.W:hover { stroke: var(--ink); stroke-width: 1.2; }
.odd { fill-opacity: .78; }
svg.worlds { min-width: 420px; max-width: 560px; }
svg.worlds .ideal { stroke: var(--line); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg.worlds .tokens { fill: none; stroke: var(--f); stroke-width: 2; }
svg.worlds circle { fill: var(--f); }
.part-compute { fill: var(--f); background: var(--f); }
.part-bubble { fill: var(--idle); background: var(--idle); }
.part-tp { fill: var(--b); background: var(--b); }
.part-cp { fill: var(--w); background: var(--w); }
.part-pp { fill: var(--faint); background: var(--faint); }
.part-dp { fill: var(--ink); background: var(--ink); }
.part-update { fill: var(--line); background: var(--line); }
)";
constexpr double kLabel = 64, kWidth = 1400, kRow = 30;

const char* css_class(plan::OpKind kind) {
  return kind == plan::OpKind::kForward ? "F" : kind == plan::OpKind::kBackwardInput ? "B" : "W";
}

void write_tile(std::ostream& out, double value, int digits, const char* words, const char* unit = "") {
  out << "<div class=\"tile\"><b>" << std::setprecision(digits) << value << unit << "</b><span>" << words
      << "</span></div>\n";
}

void write_head(std::ostream& out, const Report& report) {
  const plan::PlanFigures& f = report.step.figures;
  const plan::PlannerOptions& options = report.request.options;
  const MeshShape mesh = report.request.mesh();
  out << "<h1>Planned step</h1>\n<p class=\"sub\">dp " << mesh.dp << " &times; pp " << mesh.pp << " &times; cp "
      << mesh.cp << " &times; tp " << mesh.tp << ", " << plan::name_of(options.parallel.schedule) << ", "
      << report.request.tree.sample.size() << " samples, packs of at most " << options.max_tokens
      << " rows. Simulated from costs, not measured.<br>" << escaped(report.origin.source)
      << " &middot; costs: " << escaped(report.origin.costs) << " &middot; " << escaped(report.origin.date)
      << "</p>\n<ul class=\"verdict\">\n";
  for (const std::string& sentence : verdict(report)) out << "<li>" << escaped(sentence) << "</li>\n";
  out << "</ul>\n<div class=\"tiles\">\n";
  if (report.origin.seconds_per_unit > 0) write_tile(out, report.seconds(f.step), 3, "step", " s");
  write_tile(out, f.step_over_ideal, 3, "step / ideal");
  write_tile(out, 100 * f.bubble, 1, "bubble, busiest stage", "%");
  write_tile(out, 100 * f.idle, 1, "idle, all stages", "%");
  write_tile(out, 100 * f.gap, 1, "above the lower bound", "%");
  write_tile(out, f.replica_imbalance, 4, "slowest replica / mean");
  write_tile(out, f.sharing_kept, 2, "logical tokens a computed one");
  write_tile(out, static_cast<double>(f.packs), 0, "packs");
  write_tile(out, static_cast<double>(f.units), 0, "slices in all");
  write_tile(out, report.step.plan_ms, 1, "to plan, one thread", " ms");
  out << "</div>\n";
}

void write_box(std::ostream& out, const plan::TimelineEvent& event, double step) {
  const double left = kLabel + event.begin / step * kWidth, width = (event.end - event.begin) / step * kWidth;
  const double top = event.rank * kRow + 3;
  out << "<rect class=\"" << css_class(event.op.kind) << (event.op.pack % 2 ? " odd" : "") << "\" x=\"" << left
      << "\" y=\"" << top << "\" width=\"" << std::max(0.3, width - 0.4) << "\" height=\"" << kRow - 6
      << "\" rx=\"2\"><title>" << plan::to_string(event.op) << ", stage " << event.rank << ": " << std::setprecision(2)
      << 100 * event.begin / step << "% to " << 100 * event.end / step << "% of the step" << std::setprecision(1)
      << "</title></rect>\n";
  if (width < 26) return;
  out << "<text class=\"in\" x=\"" << left + width / 2 << "\" y=\"" << top + 16 << "\">" << event.op.pack;
  if (event.op.slice) out << '.' << event.op.slice;
  out << "</text>\n";
}

void draw(std::ostream& out, const std::vector<plan::TimelineEvent>& events, int stages, size_t busiest, double step) {
  const double height = kRow * stages;
  out << "<div class=\"wide\"><svg viewBox=\"0 0 " << kLabel + kWidth << ' ' << height + 20 << "\">\n";
  for (int stage = 0; stage < stages; ++stage)
    out << "<text" << (stages > 1 && static_cast<size_t>(stage) == busiest ? " class=\"busiest\"" : "")
        << " x=\"0\" y=\"" << stage * kRow + 19 << "\">stage " << stage << "</text><rect class=\"idle\" x=\"" << kLabel
        << "\" y=\"" << stage * kRow + 3 << "\" width=\"" << kWidth << "\" height=\"" << kRow - 6 << "\" rx=\"2\"/>\n";
  for (const plan::TimelineEvent& event : events) write_box(out, event, step);
  for (int percent = 0; percent <= 100; percent += 10)
    out << "<text x=\"" << kLabel + kWidth * percent / 100 << "\" y=\"" << height + 15 << "\" text-anchor=\""
        << (percent == 0     ? "start"
            : percent == 100 ? "end"
                             : "middle")
        << "\">" << percent << "%</text>\n";
  out << "</svg></div>\n";
}

/// What is less than a point wide joined to what a stage does before it.
std::vector<plan::TimelineEvent> joined(const std::vector<plan::TimelineEvent>& events, double point) {
  std::vector<plan::TimelineEvent> all;
  std::map<int, size_t> last;  // by stage
  for (const plan::TimelineEvent& event : events) {
    const auto [before, is_first] = last.try_emplace(event.rank, all.size());
    if (!is_first && event.begin - all[before->second].end < point &&
        event.end - all[before->second].begin < 4 * point) {
      all[before->second].end = event.end;
      continue;
    }
    before->second = all.size();
    all.push_back(event);
  }
  return all;
}

void write_timelines(std::ostream& out, const Report& report) {
  const int stages = report.request.options.parallel.pp;
  const double step = static_cast<double>(report.step.plan.step);
  out << "<h2>Timelines</h2>\n<div class=\"legend\"><span><i class=\"F\"></i>forward</span><span><i class=\"B\"></i>"
      << (report.request.options.parallel.schedule == plan::Schedule::kZeroBubble
              ? "backward, input gradient</span><span><i class=\"W\"></i>weight gradient"
              : "backward")
      << "</span><span><i class=\"idle\"></i>idle</span><span>numbers are pack.slice; every second pack is paler; the "
         "width is the step; the stage in bold computes longest</span></div>\n";
  const size_t shown = replicas_shown(report);
  for (size_t d = 0; d < shown; ++d) {
    const plan::PlannedReplica& replica = report.step.plan.replica[d];
    size_t units = 0;
    for (const plan::PlannedPack& pack : replica.pack) units += pack.slice.size();
    out << "<details" << (d == 0 ? " open" : "") << "><summary>replica " << d << " <small>" << replica.pack.size()
        << " packs, " << units << " slices, ends at " << 100 * static_cast<double>(replica.makespan) / step
        << "% of the step</small></summary>\n";
    std::vector<plan::TimelineEvent> events = timeline_of(report.request, report.step.plan, d);
    if (is_cut_short(report.request)) events = joined(events, step / kWidth);
    draw(out, events, stages, busiest_stage(report), step);
    out << "</details>\n";
  }
  if (shown < report.step.plan.replica.size())
    out << "<p class=\"sub\">" << report.step.plan.replica.size() - shown
        << " more replicas: --complete draws all of them</p>\n";
}

void write_stages(std::ostream& out, const Report& report) {
  const plan::PlanFigures& f = report.step.figures;
  std::vector<plan::StageMemory> memory;
  if (report.request.job) memory = stage_memory(report.request.job->bytes, report.request.mesh(), report.step.plan, f);
  out << "<div><h2>Stages</h2><table><tr><th>stage</th><th>layers</th><th>busy / ideal</th><th>rows in flight &times; "
         "layers</th>"
      << (memory.empty() ? "" : "<th>a rank holds</th><th>of it activations</th>") << "</tr>\n";
  const size_t stages = f.stage_busy.size();
  for (size_t s = 0; s < stages; ++s) {
    out << (stages > 1 && s == busiest_stage(report) ? "<tr class=\"busiest\"><td>" : "<tr><td>") << s << "</td><td>";
    for (size_t run = s; run < report.step.plan.layers.size(); run += stages)
      out << (run == s ? "" : " + ") << report.step.plan.layers[run];
    out << "</td><td>" << std::setprecision(3) << report.step.over_ideal(f.stage_busy[s]) << "</td><td>"
        << f.stage_peak_row_layers[s] << "</td>" << std::setprecision(1);
    if (!memory.empty())
      out << "<td>" << bytes_text(memory[s].total()) << "</td><td>" << bytes_text(memory[s].activations) << "</td>";
    out << "</tr>\n";
  }
  out << "</table></div>\n";
}

void write_others(std::ostream& out, const Report& report) {
  out << std::setprecision(3);
  if (!report.schedules.empty()) {
    out << "<div><h2>Schedules</h2><table><tr><th>schedule</th><th>step / ideal</th><th>bubble</th></tr>\n";
    for (const ScheduleTime& time : report.schedules)
      if (time.refusal.empty())
        out << "<tr><td>" << plan::name_of(time.schedule) << "</td><td>" << report.step.over_ideal(time.step)
            << "</td><td>" << time.bubble << "</td></tr>\n";
      else
        out << "<tr><td>" << plan::name_of(time.schedule) << "</td><td colspan=\"2\" class=\"why\">"
            << escaped(time.refusal) << "</td></tr>\n";
    out << "</table></div>\n";
  }
  if (!report.meshes.empty()) {
    out << "<div><h2>Other meshes</h2><table><tr><th>dp &times; pp</th><th>step / ideal</th></tr>\n";
    for (const MeshTime& mesh : report.meshes)
      out << "<tr><td>" << mesh.replicas << " &times; " << mesh.pp << "</td><td>" << report.step.over_ideal(mesh.step)
          << "</td></tr>\n";
    out << "</table></div>\n";
  }
  if (!report.others.empty()) {
    out << "<div><h2>How others pack</h2><table><tr><th>packing</th><th>cap</th><th>step / ideal</th></tr>\n";
    for (const Comparison& other : report.others)
      out << "<tr><td>" << other.name << "</td><td>" << other.best.cap << "</td><td>"
          << report.step.over_ideal(other.best.step) << "</td></tr>\n";
    out << "</table></div>\n";
  }
  if (!report.scaling.empty()) {
    out << "<div><h2>Scaling</h2><table><tr><th>ranks</th><th>dp</th><th>step / ideal</th><th>efficiency</th></tr>\n";
    for (const ScalePoint& point : report.scaling)
      out << "<tr><td>" << point.ranks << "</td><td>" << point.replicas << "</td><td>" << point.step_over_ideal
          << "</td><td>" << point.efficiency << "</td></tr>\n";
    out << "</table></div>\n";
  }
}

}  // namespace

std::string to_html(const Report& report) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << page_head("fpdist plan", kStyle);
  write_head(out, report);
  if (report.cluster) out << to_html(*report.cluster);
  write_timelines(out, report);
  out << "<div class=\"columns\">\n";
  write_stages(out, report);
  write_others(out, report);
  out << "</div>\n<h2>In words</h2>\n<pre>" << escaped(to_text(report)) << "</pre>\n" << page_end();
  return out.str();
}

}  // namespace fpdist::main_program
