#include "src/main/bench/scaling_file.hpp"

#include <fstream>

#include "fpdist/core/error.hpp"

namespace fpdist::bench {

std::vector<Line> read_scaling(const std::string& path) {
  std::vector<Line> lines;
  std::ifstream file(path);
  std::string content;
  for (int64_t number = 1; std::getline(file, content); ++number) {
    if (content.empty()) continue;
    const Line line = Line::parse(content, nullptr, /*allow_exceptions=*/false);
    check<DataError>(line.is_object(), path, ":", number, ": not a JSON object");
    if (line.value("bench", "") != "scaling") continue;
    for (const char* key : {"np", "tokens_per_second"})
      check<DataError>(line.contains(key) && line[key].is_number() && line[key].get<double>() > 0, path, ":", number,
                       ": no positive number '", key, "'");
    lines.push_back(line);
  }
  return lines;
}

std::string series_of(const Line& line) {
  return line.value("workload", "") + ", " + line.value("mode", "") +
         (line.value("share", true) ? ", shared" : ", unshared");
}

void set_efficiency(Line& line, const std::vector<Line>& lines) {
  const Line* least = &line;
  for (const Line& other : lines)
    if (series_of(other) == series_of(line) && other["np"].get<int64_t>() < (*least)["np"].get<int64_t>())
      least = &other;
  const auto a_rank = [](const Line& of) { return of["tokens_per_second"].get<double>() / of["np"].get<double>(); };
  const double efficiency = a_rank(line) / a_rank(*least);
  const auto baseline = (*least)["np"].get<int64_t>();
  line["efficiency"] = efficiency;
  line["baseline_np"] = baseline;
}

const std::vector<Table::TableColumn>& scaling_columns() {
  static const std::vector<Table::TableColumn> columns = {{"np", "np", 5},
                                                          {"nodes", "nodes", 6},
                                                          {"mesh", "mesh", 27},
                                                          {"mode", "mode", 8},
                                                          {"share", "shared", 7},
                                                          {"groups_per_step", "groups", 7},
                                                          {"seconds", "step s", 9, 4},
                                                          {"tokens_per_second", "tokens/s", 11, 0},
                                                          {"mfu_executed", "MFU", 7, 3},
                                                          {"mfu_useful", "useful", 7, 3},
                                                          {"bubble", "bubble", 7, 3},
                                                          {"exposed_communication", "exposed", 8, 3},
                                                          {"efficiency", "effic.", 7, 3}};
  return columns;
}

}  // namespace fpdist::bench
