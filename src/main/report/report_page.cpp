// The page: what is said once is written here, what is drawn comes as numbers and is drawn by report.js.

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/main/page/embedded.hpp"
#include "src/main/page/page.hpp"
#include "src/main/report/recorded_run.hpp"
#include "src/trainer/watch/metric_words.hpp"

namespace fpdist::main_program {
namespace {

using Rows = std::vector<std::pair<std::string, std::vector<std::string>>>;

constexpr size_t kMostPoints = 2000;  // of a curve

/// As many digits as a drawing can show.
nlohmann::json short_number(double value) {
  if (!std::isfinite(value)) return nullptr;
  return std::strtod(number("%.7g", value).c_str(), nullptr);
}

nlohmann::json json_of(const StepTable& table) {
  nlohmann::json json{{"step", table.step}, {"column", nlohmann::json::object()}};
  for (const auto& [name, values] : table.column) {
    nlohmann::json& column = json["column"][name] = nlohmann::json::array();
    for (const double value : values) column.push_back(short_number(value));
  }
  return json;
}

/// Inside a script element: nothing in it may end that.
std::string script_data(const std::vector<RecordedRun>& runs) {
  nlohmann::json all = nlohmann::json::array(), meaning = nlohmann::json::object();
  for (const RecordedRun& run : runs) {
    all.push_back({{"name", run.name},
                   {"training", json_of(run.training.thinned(kMostPoints))},
                   {"evaluation", json_of(run.evaluation.thinned(kMostPoints))}});
    for (const StepTable* table : {&run.training, &run.evaluation})
      for (const auto& [name, values] : table->column)
        if (const auto words = trainer::meaning_of(name); !words.empty()) meaning[name] = words;
  }
  const std::string json = nlohmann::json{{"runs", all}, {"meaning", meaning}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string safe;
  for (const char c : json) safe += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return safe;
}

std::string heading(const std::vector<RecordedRun>& runs) {
  std::string title = runs.size() == 1 ? runs[0].name : text(runs.size(), " runs");
  std::string words;
  for (const RecordedRun& run : runs)
    if (runs.size() > 1)
      words += text(words.empty() ? "" : ", ", run.path);
    else
      words = text(run.method, run.method.empty() ? "" : ", ", run.mesh, run.mesh.empty() ? "" : ", ", run.path);
  return text("<h1>", escaped(title), "</h1>\n<p class=\"sub\">", escaped(words), "</p>\n");
}

std::string tiles(const Rows& facts) {
  std::string out = "<div class=\"tiles\">\n";
  for (const auto& [label, values] : facts)
    if (label != "method" && label != "mesh")
      out += text("<div class=\"tile\"><b>", escaped(values[0]), "</b><span>", label, "</span></div>\n");
  return out + "</div>\n";
}

/// A row a label, a column a run.
std::string table(const std::string& corner, const std::vector<RecordedRun>& runs, const Rows& rows) {
  std::string out = text("<div class=\"wide\"><table class=\"runs\"><tr><th>", corner, "</th>");
  for (size_t index = 0; index < runs.size(); ++index)
    out += text("<th><i style=\"background:", curve_colour(index), "\"></i>", escaped(runs[index].name), "</th>");
  out += "</tr>\n";
  for (const auto& [label, values] : rows) {
    out += text("<tr><td>", escaped(label), "</td>");
    for (const std::string& value : values) out += text("<td>", escaped(value), "</td>");
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string summary(const std::vector<RecordedRun>& runs) {
  return runs.size() == 1 ? tiles(facts(runs)) : table("", runs, facts(runs));
}

std::string notes(const std::vector<RecordedRun>& runs) {
  std::string out;
  for (const RecordedRun& run : runs) {
    for (const std::string& note : run.notes) out += text("<li>", escaped(run.name), ": ", escaped(note), "</li>\n");
    const size_t most = std::max(run.training.step.size(), run.evaluation.step.size());
    if (most > kMostPoints)
      out += text("<li>", escaped(run.name), ": a point of a curve is the mean of ",
                  (most + kMostPoints - 1) / kMostPoints, " lines of metrics.jsonl</li>\n");
  }
  return out.empty() ? "" : text("<ul class=\"notes\">\n", out, "</ul>\n");
}

std::string differences(const std::vector<RecordedRun>& runs) {
  const Rows rows = config_differences(runs);
  if (runs.size() < 2) return "";
  return "<h2>Configurations</h2>\n" +
         (rows.empty() ? "<p class=\"sub\">No key differs between the configurations that are known.</p>\n"
                       : table("differs in", runs, rows));
}

std::string folded(const std::string& summary, const std::string& more, const std::string& words) {
  return text("<details><summary>", escaped(summary), more.empty() ? "" : text(" <small>", escaped(more), "</small>"),
              "</summary>\n<pre>", escaped(words), "</pre></details>\n");
}

std::string in_words(const std::vector<RecordedRun>& runs) {
  std::string out;
  for (const RecordedRun& run : runs) {
    std::string config;
    for (const auto& [key, value] : run.config) config += text(key, ": ", value, '\n');
    if (!config.empty()) out += folded("config.resolved.yaml", run.name, config);
    for (const auto& [name, words] : run.files) out += folded(name, run.name, words);
  }
  return out.empty() ? "" : "<h2>Files</h2>\n" + out;
}

}  // namespace

std::string report_page(const std::vector<RecordedRun>& runs) {
  std::string title = "fpdist";
  for (const RecordedRun& run : runs) title += text(" ", run.name);
  return text(page_head(title, embedded::kReportStyle), heading(runs), notes(runs), summary(runs),
              "<div id=\"controls\"></div>\n<div id=\"charts\"></div>\n", differences(runs),
              "<h2>All numbers</h2>\n<div id=\"numbers\"></div>\n", in_words(runs),
              "<script type=\"application/json\" id=\"data\">", script_data(runs), "</script>\n<script>\n",
              embedded::kReportScript, "</script>\n", page_end());
}

}  // namespace fpdist::main_program
