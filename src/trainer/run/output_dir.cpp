#include "src/trainer/run/output_dir.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>
#include <vector>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/state/training_state.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/files/folders.hpp"
#include "src/trainer/run/old_run.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLock = "run.lock";
constexpr char kConfig = 'c', kDisk = 'd';  // begins what every rank throws

/// What rank 0's `work` throws every rank does.
template <typename Work>
void on_rank_0(comm::Communicator& world, Work work) {
  std::string refusal;
  if (world.rank() == 0) try {
      work();
    } catch (const ConfigError& error) {
      refusal = kConfig + std::string(error.what());
    } catch (const DiskError& error) {
      refusal = kDisk + std::string(error.what());
    }
  refusal = comm::broadcast_text(refusal, 0, world);
  if (refusal.empty()) return;
  if (refusal[0] == kConfig) throw ConfigError(refusal.substr(1));
  throw DiskError(refusal.substr(1));
}

std::string this_process() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return text("process ", ::getpid(), " on ", host.data());
}

/// Whether it holds anything but the lock.
bool is_occupied(const fs::path& dir) {
  std::error_code error;
  const fs::directory_iterator entries(dir, error);
  return std::any_of(begin(entries), end(entries), [](const auto& entry) { return entry.path().filename() != kLock; });
}

/// Refuses or removes what an earlier run left where this one begins anew.
void begin_anew(const TrainOptions& options, const InputAt& input_at) {
  if (!is_occupied(options.output_dir)) return;
  const bool is_auto = options.resume_from_checkpoint == "auto";
  const std::string held = is_auto ? results_in(options.output_dir) : "anything";
  check<ConfigError>(options.overwrite_output_dir || held.empty(), "train.output_dir ", options.output_dir,
                     is_auto ? text(" holds ", held, " and no checkpoint to go on from") : " is not empty",
                     ": choose another, or set train.overwrite_output_dir: true");
  checkpoint::recover_states(options.output_dir);
  remove_old_run(options.output_dir, [&](const std::string& file) { return !input_at(file).empty(); });
}

/// Refuses or removes checkpoints that are newer than the one that was named: an automatic start would take them for
/// this run's. What auto itself has passed over stays until this run's take its place.
void go_on(const TrainOptions& options, const ResumePoint& from) {
  std::vector<std::string> newer;
  if (options.resume_from_checkpoint != "auto")
    for (const checkpoint::FoundState& state : checkpoint::find_states(options.output_dir))
      if (state.step > from.step) newer.push_back(state.directory);
  check<ConfigError>(newer.empty() || options.overwrite_output_dir, "train.output_dir ", options.output_dir, " holds ",
                     newer.empty() ? "" : newer.front(), ", which is newer than the checkpoint to go on from: ",
                     "choose another output_dir, or set train.overwrite_output_dir: true, which removes it");
  for (const std::string& directory : newer) checkpoint::remove_state(directory);
  remove_unfinished(options.output_dir);
  cut_metrics(options.output_dir + "/metrics.jsonl", from.step);
}

/// The first input that this rank finds among what the run would write over; "" where there is none.
std::string input_in_the_way(const TrainOptions& options, const InputAt& input_at) {
  for (const std::string& file : files_in_the_way(options))
    if (const std::string input = input_at(file); !input.empty())
      return text("train.output_dir ", options.output_dir, ": the run would write over ", file, ", and ", input,
                  " is that file: choose another train.output_dir");
  return "";
}

}  // namespace

std::unique_ptr<files::LockFile> lock_output_dir(const TrainOptions& options, const InputAt& input_at,
                                                 comm::Communicator& world, LogSink& log) {
  const std::string path = text(options.output_dir, "/", kLock);
  std::unique_ptr<files::LockFile> lock;
  on_rank_0(world, [&] {
    const std::string input = input_at(path);
    check<ConfigError>(input.empty(), "train.output_dir ", options.output_dir, ": the run would write over ", path,
                       ", and ", input, " is that file: choose another train.output_dir");
    files::make_folder(options.output_dir);
    try {
      lock = std::make_unique<files::LockFile>(path, this_process());
    } catch (const ConfigError& error) {
      throw ConfigError(text("another run writes into train.output_dir: ", error.what(),
                             ": wait for its end, or choose another train.output_dir"));
    }
    if (options.resume_from_checkpoint != "none") checkpoint::recover_states(options.output_dir);
  });
  if (lock && !lock->is_held())
    log.warning(text(options.output_dir, " is on a file system without locks: start no second run there"));
  return lock;
}

void prepare_output_dir(const TrainOptions& options, const ResumePoint& from, const std::string& resolved_config,
                        const InputAt& input_at, comm::Communicator& world) {
  const comm::SlowWork slow(world, text("preparing ", options.output_dir));
  for (const std::string& refusal : comm::gather_texts(input_in_the_way(options, input_at), world))
    check<ConfigError>(refusal.empty(), refusal);
  on_rank_0(world, [&] {
    from.is_own ? go_on(options, from) : begin_anew(options, input_at);
    files::make_folder(options.output_dir + "/logs");
    files::write(options.output_dir + "/config.resolved.yaml", resolved_config);
  });
}

}  // namespace fpdist::trainer
