#include "src/main/plan/world_report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <sstream>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/main/page/page.hpp"

namespace fpdist::main_program {
namespace {

using SecondsField = double plan::ClusterSeconds::*;
constexpr std::array<std::pair<const char*, SecondsField>, 7> kParts{{{"compute", &plan::ClusterSeconds::compute},
                                                                      {"bubble", &plan::ClusterSeconds::bubble},
                                                                      {"tp", &plan::ClusterSeconds::tensor},
                                                                      {"cp", &plan::ClusterSeconds::context},
                                                                      {"pp", &plan::ClusterSeconds::pipeline},
                                                                      {"dp", &plan::ClusterSeconds::data},
                                                                      {"update", &plan::ClusterSeconds::update}}};

std::string mesh_text(const WorldPoint& point) {
  const MeshShape& mesh = point.mesh;
  return text("dp ", mesh.dp, " x pp ", mesh.pp, " x cp ", mesh.cp,
              point.ulysses > 1 ? text(" (ulysses ", point.ulysses, ")") : "", " x tp ", mesh.tp,
              mesh.pp > 1 ? text(", ", plan::name_of(point.schedule)) : "", point.recompute ? ", recompute" : "",
              ", packs of at most ", point.max_tokens);
}

void draw_throughput(std::ostream& out, const std::vector<const WorldPoint*>& points) {
  constexpr double kWide = 520, kHigh = 260, kEdge = 46;
  const double first = static_cast<double>(points.front()->ranks), last = static_cast<double>(points.back()->ranks);
  const double low = points.front()->tokens_per_second, high = low * last / first;
  const auto x = [&](double ranks) {
    return kEdge + (kWide - 2 * kEdge) * std::log(ranks / first) / std::log(last / first);
  };
  const auto y = [&](double tokens) {
    return kHigh - kEdge - (kHigh - 2 * kEdge) * std::log(std::max(tokens, low) / low) / std::log(high / low);
  };
  out << "<svg class=\"worlds\" viewBox=\"0 0 " << kWide << ' ' << kHigh << "\"><line class=\"ideal\" x1=\"" << x(first)
      << "\" y1=\"" << y(low) << "\" x2=\"" << x(last) << "\" y2=\"" << y(high)
      << "\"/><polyline class=\"tokens\" points=\"";
  for (const WorldPoint* point : points)
    out << x(static_cast<double>(point->ranks)) << ',' << y(point->tokens_per_second) << ' ';
  out << "\"/>\n";
  for (const WorldPoint* point : points) {
    const double at = x(static_cast<double>(point->ranks));
    out << "<circle cx=\"" << at << "\" cy=\"" << y(point->tokens_per_second) << "\" r=\"3.5\"/><text x=\"" << at
        << "\" y=\"" << kHigh - 14 << "\" text-anchor=\"middle\">" << point->ranks << "</text><text x=\"" << at
        << "\" y=\"" << y(point->tokens_per_second) + 20 << "\" text-anchor=\"middle\">" << std::setprecision(0)
        << 100 * point->efficiency << "%</text>\n"
        << std::setprecision(1);
  }
  out << "<text x=\"4\" y=\"14\">tokens a second by GPUs, both by powers; the line: as the smallest "
         "does</text></svg>\n";
}

/// A bar a size: where a step's seconds go.
void draw_parts(std::ostream& out, const std::vector<const WorldPoint*>& points) {
  constexpr double kLabel = 60, kWide = 460, kRow = 26;
  out << "<svg class=\"worlds\" viewBox=\"0 0 " << kLabel + kWide << ' '
      << kRow * static_cast<double>(points.size()) + 4 << "\">\n";
  for (size_t i = 0; i < points.size(); ++i) {
    const double top = kRow * static_cast<double>(i) + 3;
    out << "<text x=\"0\" y=\"" << top + 15 << "\">" << points[i]->ranks << "</text>";
    double left = kLabel;
    for (const auto& [name, part] : kParts) {
      const double share = points[i]->seconds.*part / points[i]->seconds.all();
      out << "<rect class=\"part-" << name << "\" x=\"" << left << "\" y=\"" << top << "\" width=\"" << share * kWide
          << "\" height=\"" << kRow - 6 << "\"><title>" << name << ": " << 100 * share << "%</title></rect>";
      left += share * kWide;
    }
    out << '\n';
  }
  out << "</svg>\n<div class=\"legend\">";
  for (const auto& [name, unused] : kParts) out << "<span><i class=\"part-" << name << "\"></i>" << name << "</span>";
  out << "</div>\n";
}

void write_rows(std::ostream& out, const ClusterReport& report) {
  out << "<table><tr><th>GPUs</th><th>best mesh that fits</th><th>step, s</th><th>tokens/s</th><th>efficiency</th>"
         "<th>MFU</th><th>binds</th><th>a GPU holds</th></tr>\n";
  for (const WorldPoint& point : report.worlds) {
    out << "<tr><td>" << point.ranks << "</td>";
    if (!point.refusal.empty()) {
      out << "<td colspan=\"7\" class=\"why\">" << escaped(point.refusal) << "</td></tr>\n";
      continue;
    }
    out << "<td>" << mesh_text(point) << "</td><td>" << std::setprecision(3) << point.seconds.all() << "</td><td>"
        << std::setprecision(0) << point.tokens_per_second << "</td><td>" << std::setprecision(3) << point.efficiency
        << "</td><td>" << point.mfu << "</td><td>" << plan::largest_loss(point.seconds) << "</td><td>"
        << bytes_text(static_cast<int64_t>(point.memory)) << "</td></tr>\n";
  }
  out << "</table>\n";
}

/// Of a mesh that was planned, the best one or another.
nlohmann::json mesh_json(const PlannedMesh& at) {
  nlohmann::json one{{"dp", at.mesh.dp},
                     {"pp", at.mesh.pp},
                     {"cp", at.mesh.cp},
                     {"ulysses", at.ulysses},
                     {"tp", at.mesh.tp},
                     {"schedule", plan::name_of(at.schedule)},
                     {"recompute", at.recompute},
                     {"max_tokens", at.max_tokens},
                     {"step_seconds", at.seconds.all()},
                     {"memory", at.memory}};
  for (const auto& [name, part] : kParts) one["seconds"][name] = at.seconds.*part;
  return one;
}

}  // namespace

std::string to_text(const ClusterReport& report) {
  std::ostringstream out;
  out << std::fixed << "on a cluster   " << report.source << ": predicted, not measured. Sharing is worth at most "
      << std::setprecision(2) << report.sharing_bound << " times nothing shared\n";
  for (const WorldPoint& point : report.worlds) {
    out << std::setw(6) << std::right << point.ranks << " GPUs    ";
    if (!point.refusal.empty()) {
      out << point.refusal << '\n';
      continue;
    }
    out << mesh_text(point) << ": " << std::setprecision(3) << point.seconds.all() << " s, " << std::setprecision(0)
        << point.tokens_per_second << " tokens/s, efficiency " << std::setprecision(3) << point.efficiency << ", MFU "
        << point.mfu << ", binds: " << plan::largest_loss(point.seconds) << ", a GPU holds "
        << bytes_text(static_cast<int64_t>(point.memory)) << "\n               " << std::setprecision(1);
    for (const auto& [name, part] : kParts)
      out << name << ' ' << 100 * (point.seconds.*part / point.seconds.all()) << "%  ";
    out << "(" << point.planned << " of " << point.meshes << " meshes planned, " << point.too_large << " too large)\n";
  }
  return out.str();
}

nlohmann::json to_json(const ClusterReport& report) {
  nlohmann::json worlds = nlohmann::json::array();
  for (const WorldPoint& point : report.worlds) {
    nlohmann::json one{{"ranks", point.ranks}};
    if (!point.refusal.empty()) {
      one["refusal"] = point.refusal;
      worlds.push_back(std::move(one));
      continue;
    }
    one.update(mesh_json(point));
    one.update({{"tokens_per_second", point.tokens_per_second},
                {"efficiency", point.efficiency},
                {"mfu", point.mfu},
                {"binds", plan::largest_loss(point.seconds)},
                {"sharing_kept", point.sharing_kept}});
    for (const PlannedMesh& other : point.fitted) one["fitting"].push_back(mesh_json(other));
    worlds.push_back(std::move(one));
  }
  return {{"source", report.source}, {"sharing_bound", report.sharing_bound}, {"worlds", worlds}};
}

std::string to_html(const ClusterReport& report) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << "<h2>On a cluster</h2>\n<p class=\"sub\">" << escaped(report.source)
      << ", the same step on every size. Predicted, not measured; sharing is worth at most " << std::setprecision(2)
      << report.sharing_bound << " times nothing shared.</p>\n"
      << std::setprecision(1);
  std::vector<const WorldPoint*> points;
  for (const WorldPoint& point : report.worlds)
    if (point.refusal.empty()) points.push_back(&point);
  std::ranges::sort(points, {}, &WorldPoint::ranks);
  if (points.size() > 1 && points.front()->ranks < points.back()->ranks) {
    out << "<div class=\"columns\"><div>";
    draw_throughput(out, points);
    out << "</div><div>";
    draw_parts(out, points);
    out << "</div></div>\n";
  }
  write_rows(out, report);
  return out.str();
}

}  // namespace fpdist::main_program
