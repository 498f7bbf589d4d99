#include "src/trainer/run/resume.hpp"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/checkpoint/state/training_state.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/core/clock.hpp"
#include "src/files/files.hpp"
#include "src/trainer/run/rotation.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

/// Why no run can go on from one, and what becomes of it.
std::string words_of(const checkpoint::FoundState& state) {
  if (!state.is_newer) return state.fault;
  return text("it is not damaged, a newer program has written it: ", state.fault,
              "; this program would go on from before it, and write over it when it has come as far");
}

/// Folder and fault of those in output_dir, a line each, newest first, as rank 0 sees them.
std::string found_here(const std::string& output_dir) {
  std::string lines;
  for (const checkpoint::FoundState& state : checkpoint::find_states(output_dir))
    lines += text(state.directory, '\t', words_of(state), '\n');
  return lines;
}

/// The newest that is whole.
ResumePoint find_newest(Trainer& trainer, const std::string& output_dir) {
  const bool is_first = trainer.world().rank() == 0;
  std::istringstream lines(
      comm::broadcast_text(is_first ? found_here(output_dir) : "", 0, trainer.world().communicator()));
  ResumePoint point;
  for (std::string line; std::getline(lines, line);) {
    const size_t tab = line.find('\t');
    const std::string directory = line.substr(0, tab);
    std::string fault = line.substr(tab + 1);
    if (fault.empty()) fault = trainer.fault_of_state(directory);
    if (fault.empty()) {
      point.directory = directory, point.step = step_of_folder(directory), point.is_own = true;
      return point;
    }
    point.passed_over.push_back(text(directory, ": ", fault));
  }
  std::string all;
  for (const std::string& one : point.passed_over) all += "\n  " + one;
  check<ModelFileError>(all.empty(), "train.resume_from_checkpoint: auto: no checkpoint in ", output_dir,
                        " can be gone on from:", all,
                        "\nchoose another train.output_dir, or remove them to begin anew");
  return point;
}

ResumePoint given(Trainer& trainer, const std::string& path, const std::string& output_dir) {
  const fs::path directory = checkpoint::without_slash(path);
  const std::string fault = trainer.fault_of_state(directory.string());
  check<ModelFileError>(fault.empty(), "train.resume_from_checkpoint ", path, ": ", fault);
  std::error_code unknown;
  const fs::path parent = directory.has_parent_path() ? directory.parent_path() : fs::path(".");
  return {.directory = directory.string(),
          .step = step_of_folder(directory.string()),
          .is_own = fs::equivalent(parent, output_dir, unknown) && step_of_folder(directory.string()) > 0};
}

/// The step of a line of metrics.jsonl; -1 where it is none.
int64_t step_of_line(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number()) return -1;
  return json["step"].get<int64_t>();
}

}  // namespace

ResumePoint find_resume_point(Trainer& trainer) {
  const TrainOptions& options = trainer.settled().config.train;
  if (options.resume_from_checkpoint == "none") return {};
  const auto start = Clock::now();
  ResumePoint point = options.resume_from_checkpoint == "auto"
                          ? find_newest(trainer, options.output_dir)
                          : given(trainer, options.resume_from_checkpoint, options.output_dir);
  point.seconds = seconds_since(start);
  return point;
}

void cut_metrics(const std::string& path, int64_t step) {
  std::ifstream in(path, std::ios::binary);
  uint64_t kept = 0;
  for (std::string line; std::getline(in, line) && !in.eof();) {  // eof: the line has no end
    const int64_t of_line = step_of_line(line);
    if (of_line < 0 || of_line > step) break;
    kept += line.size() + 1;
  }
  if (in.is_open()) files::cut(path, kept);
}

}  // namespace fpdist::trainer
