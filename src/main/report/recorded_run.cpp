#include "src/main/report/recorded_run.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/mesh_shape.hpp"

namespace fpdist::main_program {
namespace {

namespace fs = std::filesystem;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr std::string_view kEval = "eval_";

/// Adds a line of metrics.jsonl; false where it is none.
bool add_line(const std::string& line, RecordedRun& run, bool& went_back) {
  const nlohmann::json row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer()) return false;
  const auto step = row["step"].get<int64_t>();
  std::map<std::string, double> training, evaluation;
  for (const auto& [name, value] : row.items())
    if (name != "step" && (value.is_number() || value.is_null()))
      (name.starts_with(kEval) ? evaluation : training)[name] = value.is_null() ? kNone : value.get<double>();
  if (!evaluation.empty() && !training.contains("loss")) training.clear();  // such as its epoch
  if (!training.empty()) {
    went_back |= run.training.cut(step);
    run.evaluation.cut(step);
    run.training.add(step, training);
  }
  if (!evaluation.empty()) {
    went_back |= run.evaluation.cut(step);
    run.evaluation.add(step, evaluation);
  }
  return true;
}

void read_metrics(const std::string& path, RecordedRun& run) {
  std::ifstream in(path, std::ios::binary);
  check<DataError>(in.is_open() && !fs::is_directory(path), path, ": cannot be opened",
                   errno ? text(": ", std::strerror(errno)) : "",
                   ": give the output_dir of a run that has jsonl in train.report_to, or its metrics.jsonl");
  run.sources.push_back(path);
  bool went_back = false;
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (add_line(line, run, went_back)) continue;
    check<DataError>(in.eof(), path, ':', number, ": no line of a run's metrics: each is an object with a step");
    run.notes.push_back(text("the last line of metrics.jsonl, ", number, ", is cut: left out"));
  }
  if (went_back) run.notes.push_back("metrics.jsonl goes back to earlier steps: of each the last line counts");
  if (run.training.step.empty()) run.notes.push_back("metrics.jsonl has no step yet");
}

void read_config(const std::string& path, RecordedRun& run) {
  run.sources.push_back(path);
  try {
    const config::CommandLine line = config::parse_command_line({"--config", path});
    run.config = config::key_values(line.config);
    run.method = name_of(line.config.method);
    if (line.config.parallel.dp > 0) run.mesh = to_string(line.config.parallel);
    run.max_steps = line.config.train.max_steps;
  } catch (const Error& error) {
    run.notes.push_back(text("config.resolved.yaml is not read: ", error.what()));
  }
}

/// "" where it cannot be read.
std::string whole_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Measured costs, and the timelines of profiled steps in words.
void read_others(const fs::path& folder, RecordedRun& run) {
  std::error_code error;
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name == "costs.yaml" || (name.starts_with("trace-") && name.ends_with(".txt"))) names.insert(name);
  }
  for (const std::string& name : names) {
    run.sources.push_back((folder / name).string());
    run.files.emplace_back(name, whole_file(folder / name));
  }
}

/// The folder of a run that is given as that or as a file in it.
fs::path folder_of(const std::string& path) {
  const fs::path whole = fs::absolute(path);
  return ((fs::is_regular_file(path) ? whole.parent_path() : whole) / "").lexically_normal().parent_path();
}

/// The last `count` parts of a folder's path.
std::string last_parts(const fs::path& folder, size_t count) {
  std::vector<std::string> parts;
  for (const fs::path& part : folder.relative_path()) parts.push_back(part.string());
  std::string name;
  for (size_t i = parts.size() - std::min(count, parts.size()); i < parts.size(); ++i)
    name += text(name.empty() ? "" : "/", parts[i]);
  return name;
}

}  // namespace

bool StepTable::cut(int64_t from) {
  const auto rows = static_cast<size_t>(std::lower_bound(step.begin(), step.end(), from) - step.begin());
  if (rows == step.size()) return false;
  step.resize(rows);
  for (auto& [name, values] : column) values.resize(rows);
  return true;
}

void StepTable::add(int64_t at, const std::map<std::string, double>& values) {
  for (const auto& [name, value] : values) column.try_emplace(name, step.size(), kNone).first->second.push_back(value);
  step.push_back(at);
  for (auto& [name, column_values] : column) column_values.resize(step.size(), kNone);
}

const std::vector<double>& StepTable::of(const std::string& name) const {
  static const std::vector<double> kEmpty;
  const auto found = column.find(name);
  return found == column.end() ? kEmpty : found->second;
}

StepTable StepTable::thinned(size_t most) const {
  const size_t together = (step.size() + most - 1) / most;
  if (together <= 1) return *this;
  StepTable thin;
  for (size_t begin = 0; begin < step.size(); begin += together) {
    const size_t end = std::min(begin + together, step.size());
    thin.step.push_back(step[end - 1]);
    for (const auto& [name, values] : column) {
      double sum = 0, count = 0;
      for (size_t row = begin; row < end; ++row)
        if (std::isfinite(values[row])) sum += values[row], ++count;
      thin.column[name].push_back(count > 0 ? sum / count : kNone);
    }
  }
  return thin;
}

RecordedRun read_run(const std::string& path) {
  check<DataError>(fs::exists(path), path, ": there is no such run: give its output_dir");
  const fs::path folder = folder_of(path);
  RecordedRun run;
  run.name = last_parts(folder, 1);
  run.path = path;
  read_metrics(fs::is_regular_file(path) ? path : (fs::path(path) / "metrics.jsonl").string(), run);
  const fs::path config = folder / "config.resolved.yaml";
  if (fs::exists(config))
    read_config(config.string(), run);
  else
    run.notes.push_back("there is no config.resolved.yaml");
  read_others(folder, run);
  return run;
}

void tell_apart(std::vector<RecordedRun>& runs) {
  for (size_t count = 2; count < 32; ++count) {
    std::map<std::string, std::vector<RecordedRun*>> by_name;
    for (RecordedRun& run : runs) by_name[run.name].push_back(&run);
    if (by_name.size() == runs.size()) return;
    for (const auto& [name, alike] : by_name)
      for (RecordedRun* run : alike)
        if (alike.size() > 1) run->name = last_parts(folder_of(run->path), count);
  }
  for (size_t index = 0; index < runs.size(); ++index) runs[index].name += text(" #", index + 1);  // given twice
}

std::vector<std::pair<std::string, std::vector<std::string>>> config_differences(const std::vector<RecordedRun>& runs) {
  std::map<std::string, std::vector<std::string>> values;
  std::vector<std::string> order;
  for (size_t index = 0; index < runs.size(); ++index)
    for (const auto& [key, value] : runs[index].config) {
      auto [entry, is_new] = values.try_emplace(key, runs.size(), "");
      if (is_new) order.push_back(key);
      entry->second[index] = value;
    }
  std::vector<std::pair<std::string, std::vector<std::string>>> different;
  for (const std::string& key : order) {
    std::set<std::string> distinct;
    for (size_t index = 0; index < runs.size(); ++index)
      if (!runs[index].config.empty()) distinct.insert(values[key][index]);
    if (distinct.size() > 1 && key != "train.output_dir") different.emplace_back(key, values[key]);
  }
  return different;
}

}  // namespace fpdist::main_program
