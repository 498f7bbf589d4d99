#pragma once
// main: what every fpdist program shares: the environment before MPI starts, the console, and the one catch.

#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/trainer/run_progress.hpp"
#include "src/core/clock.hpp"

namespace fpdist::main_program {

/// Lines to the terminal: info to stdout, warnings and errors to stderr; progress is one line that stays below them and
/// is drawn over, on a terminal, and lines as any others elsewhere.
class ConsoleLog final : public LogSink {
 public:
  /// `is_quiet`: warnings and errors alone.
  explicit ConsoleLog(bool is_quiet = false);
  ~ConsoleLog() override;
  void write(LogLevel level, std::string_view line) override;
  void progress(std::string_view line) override;

  /// Whether a bar can be shown: on a terminal that is not to be quiet.
  bool has_bar() const { return has_bar_; }
  /// Draws the bar, ten times a second at most, and at once when the phase changes or the run has ended.
  void show(const trainer::RunProgress& progress);

 private:
  void draw(const std::string& line);
  bool is_quiet_, has_bar_, is_utf8_;
  std::mutex mutex_;
  std::string line_;  // that is drawn below all others; empty: none
  std::string phase_;
  Clock::time_point drawn_;
};

/// Rank and number of ranks as the launcher gave them, before MPI starts; 0 and 1 without one.
int launched_rank();
int launched_size();

/// Throws ConfigError, with the line to type, when this process is alone in MPI's world although its launcher started
/// several: each would train all of the data and write the same folder.
void check_launch(const comm::World& world);

/// Usable cores of this process.
int usable_cores();

/// Before World: lets MPI yield when a host has more ranks than cores (else a barrier spins for milliseconds), and
/// gives each rank its share of the cores. Memory once taken stays with the process.
void prepare_environment();

/// Before the first GPU is opened, for a run that shall give the same bits again: what NCCL must leave. A variable that
/// is set stays as it is.
void prepare_determinism();

/// From now on SIGUSR1, SIGTERM and the first SIGINT ask to stop; a second SIGINT ends the process at once.
void catch_stop_signals();
/// Whether one of them has come.
bool stop_asked();

/// "fpdist 0.1.0, commit 9fceb02" and the libraries that the program runs with, for --version.
std::string version_text();

/// Runs `body`, prints what it throws once per job and returns the exit code.
int run(const std::function<void()>& body);

/// run() for a program whose body works on all ranks of `world`. Where all ranks fail alike, they end one by one, and
/// what rank 0 says is the last word; otherwise a failing rank takes the job down with its exit code.
int run_on(comm::World& world, const std::function<void()>& body);

}  // namespace fpdist::main_program
