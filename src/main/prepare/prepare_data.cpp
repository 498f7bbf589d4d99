#include "src/main/prepare/prepare_data.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <utility>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "src/config/inputs.hpp"
#include "src/config/read_data.hpp"
#include "src/data/rows/dump_rows.hpp"
#include "src/data/source/cached_dataset.hpp"
#include "src/files/files.hpp"
#include "src/main/prepare/data_report.hpp"
#include "src/main/prepare/reading_bar.hpp"
#include "src/main/prepare/show_rows.hpp"
#include "src/main/program.hpp"

namespace fpdist::main_program {
namespace {

/// The value of `--name VALUE` or `--name=VALUE`, taken out of `arguments`.
std::optional<std::string> take(const std::string& name, std::vector<std::string>& arguments) {
  for (auto at = arguments.begin(); at != arguments.end(); ++at) {
    if (at->starts_with(name + "=")) {
      const std::string value = at->substr(name.size() + 1);
      arguments.erase(at);
      return value;
    }
    if (*at != name) continue;
    check<ConfigError>(at + 1 != arguments.end(), name, " needs a value; see fpdist_prepare --help");
    const std::string value = at[1];
    arguments.erase(at, at + 2);
    return value;
  }
  return std::nullopt;
}

int64_t count_of(const std::string& name, const std::optional<std::string>& value) {
  if (!value) return 0;
  int64_t count = -1;
  const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), count);
  check<ConfigError>(error == std::errc() && end == value->data() + value->size() && count >= 0, name, " is ", *value,
                     ": give a number of groups");
  return count;
}

/// The job on as few ranks as its mesh allows: data are the same on all.
config::Settled settle_alone(config::Config config) {
  plan::ParallelOptions& mesh = config.parallel;
  for (int* axis : {&mesh.dp, &mesh.pp, &mesh.cp, &mesh.tp}) *axis = std::max(1, *axis);
  const int ranks = mesh.size();
  return config::settle(std::move(config), ranks);
}

void prune_cache(const config::Config& config, const data::Tokenizer& tokenizer, LogSink& log) {
  const std::string folder = config::cache_folder(config, tokenizer);
  check<ConfigError>(!folder.empty(), "--prune: this configuration has no token cache (data.cache_dir is ",
                     config.data.cache_dir, "): name its folder");
  std::vector<Digest> kept{data::cache_key(config.data, config.method, tokenizer)};
  if (!config.data.eval_path.empty())
    kept.push_back(data::cache_key(config::evaluation_config(config).data, config.method, tokenizer));
  const int64_t removed = data::prune_caches(folder, kept);
  log.info(text("removed ", removed, " token caches from ", folder, "; ", kept.size() > 1 ? "those" : "that",
                " of this configuration ", kept.size() > 1 ? "stay" : "stays"));
}

/// A file that is asked for: its option, and what writes it.
struct Output {
  std::string option;
  std::optional<std::string> path;
};

std::vector<Output> take_outputs(std::vector<std::string>& arguments) {
  std::vector<Output> outputs{{"--dump", {}}, {"--report", {}}, {"--html", {}}};
  for (Output& one : outputs) one.path = take(one.option, arguments);
  return outputs;
}

void check_outputs(const std::vector<Output>& outputs, const config::CommandLine& line) {
  files::Inputs inputs = config::inputs_of(line.config);
  inputs.add("--config", line.file);
  for (const Output& one : outputs)
    if (one.path) inputs.check_spared(*one.path, text("give ", one.option, " another name"));
}

void write_outputs(const std::vector<Output>& outputs, const data::Dataset& dataset, const config::Config& config,
                   const DataReport& report, LogSink& log) {
  for (const auto& [option, path] : outputs) {
    if (!path) continue;
    const auto parent = std::filesystem::path(*path).parent_path();
    std::error_code made;
    if (!parent.empty()) std::filesystem::create_directories(parent, made);
    if (option == "--dump")
      data::dump_rows(dataset.group, config.method, *path, config.data.sources);
    else
      files::write(*path, option == "--html" ? report_html(report) : report_json(report));
    log.info(text("wrote ", *path));
  }
}

}  // namespace

void prepare_data(std::vector<std::string> arguments) {
  const std::vector<Output> outputs = take_outputs(arguments);
  const bool prune = std::erase(arguments, "--prune") > 0;
  const int64_t shown = count_of("--show", take("--show", arguments));
  const config::CommandLine line = config::parse_command_line(arguments);
  check_outputs(outputs, line);
  const config::Settled job = settle_alone(line.config);
  ConsoleLog log;
  const auto tokenizer = config::tokenizer_of(job.config, job.model);
  if (prune) return prune_cache(job.config, *tokenizer, log);
  const bool on_terminal = isatty(STDOUT_FILENO) != 0;
  ReadingBar bar(log, on_terminal);
  const data::Dataset dataset = config::read_data(job.config, job.model, *tokenizer, config::MayWrite::kYes, log,
                                                  [&](const data::ReadState& state) { bar.see(state); });
  for (int64_t i = 0; i < std::min(shown, std::ssize(dataset.group)); ++i)
    log.info(show_group(dataset.group[static_cast<size_t>(i)], *tokenizer, on_terminal));
  const DataReport report = make_report(dataset, job.config, *tokenizer);
  std::string words = report_text(report);
  words.pop_back();  // the log ends the line
  log.info(words);
  write_outputs(outputs, dataset, job.config, report, log);
}

}  // namespace fpdist::main_program
