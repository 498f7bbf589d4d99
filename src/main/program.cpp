#include "src/main/program.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <torch/csrc/api/include/torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <thread>

#include "fpdist/core/error.hpp"
#include "src/comm/host/farewell.hpp"
#include "src/comm/host/mpi_library.hpp"
#include "src/core/version.hpp"
#include "src/main/progress_bar.hpp"

#if defined(__x86_64__)
// What MKL, inside torch, asks before it takes the kernels written for wide vectors; its own answer is no wherever the
// maker is another, and half of the machine stays idle: bfloat16 products run 2.2 times as fast for it. In a program,
// whose symbols come before those of libraries; a library must not answer for its host.
extern "C" int mkl_serv_intel_cpu_true() { return __builtin_cpu_supports("avx2") ? 1 : 0; }
#endif

namespace fpdist::main_program {
namespace {

/// Memory that a step gives back is what the next one takes: pages that go to the system and come again, zeroed one by
/// one, cost more than many a kernel that fills them.
void keep_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
}

int environment_number(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoi(value) : otherwise;
}

int launched_local_size() { return environment_number("OMPI_COMM_WORLD_LOCAL_SIZE", 1); }

struct Failure {
  ExitCode code;
  std::string what;
};

Failure describe_current_exception() {
  const auto out_of_memory = [](const std::string& detail) {
    return Failure{ExitCode::kOutOfMemory,
                   "out of memory: lower pack.max_tokens, or set model.gradient_checkpointing: true\n" + detail};
  };
  try {
    throw;
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(error.what_without_backtrace());
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    if (what.find("can't allocate memory") != std::string::npos) return out_of_memory(what);
    return {ExitCode::kUsage, "internal error in a tensor operation: " + what};
  } catch (const std::bad_alloc&) {
    return out_of_memory("");
  } catch (const std::exception& error) {
    return {ExitCode::kUsage, std::string("internal error: ") + error.what()};
  }
}

// Ranks meet the same bad config, row or file at the same time: rank 0 says it for all, the others wait for rank 0 to
// end the job and speak only when it does not.
bool every_rank_sees(ExitCode code) {
  return code == ExitCode::kUsage || code == ExitCode::kData || code == ExitCode::kModelFiles ||
         code == ExitCode::kNumerics;
}

/// How long ranks but the first wait to be ended by what rank 0 does, before they speak.
constexpr std::chrono::seconds kPatience{5};

/// `is_alike`: all ranks have failed.
void report(const Failure& failure, bool is_alike = false) {
  if (is_alike && launched_rank() != 0) return;
  // A lost peer may be one that is ending the job with an error of its own: that error and its exit code come first.
  if (failure.code == ExitCode::kPeer) std::this_thread::sleep_for(std::chrono::seconds(1));
  if (every_rank_sees(failure.code) && launched_rank() != 0) std::this_thread::sleep_for(kPatience);
  std::cerr << (launched_rank() ? text("rank ", launched_rank(), ": ") : std::string()) << "error: " << failure.what
            << std::endl;
}

/// How long a rank that failed waits for the others to fail as well.
constexpr std::chrono::milliseconds kFarewell{1500};

volatile std::sig_atomic_t stop_asked_for = 0, was_interrupted = 0;

extern "C" void on_stop_signal(int signal_number) {
  stop_asked_for = 1;
  if (signal_number != SIGINT) return;
  if (was_interrupted == 0) return void(was_interrupted = 1);
  std::signal(SIGINT, SIG_DFL);  // what it does to a process that catches nothing
  std::raise(SIGINT);
}

/// The terminal that stdout is, or "". mpirun gives its ranks one of its own making, whatever its own output is: then
/// mpirun's output decides.
std::string terminal() {
  std::error_code unknown;
  const bool is_launched = std::getenv("OMPI_COMM_WORLD_RANK") != nullptr;
  if (!is_launched && isatty(STDOUT_FILENO) == 0) return "";
  const std::string process = is_launched ? std::to_string(getppid()) : "self";
  const auto target = std::filesystem::read_symlink(text("/proc/", process, "/fd/1"), unknown).string();
  return target.starts_with("/dev/pts/") || target.starts_with("/dev/tty") ? target : "";
}

/// Columns of the terminal now: it may be resized.
size_t terminal_width() {
  constexpr size_t kUsual = 80;
  const int device = ::open(terminal().c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC);
  if (device < 0) return kUsual;
  winsize size{};
  const bool is_known = ::ioctl(device, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  ::close(device);
  return is_known ? size.ws_col : kUsual;
}

/// Whether the line can be drawn over, which needs more than a printer can do.
bool draws_over() {
  const char* kind = std::getenv("TERM");
  return !terminal().empty() && kind != nullptr && std::string_view(kind) != "dumb";
}

/// As the C library decides it: the first of three that says anything.
bool speaks_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string_view words(value);
    return words.find("UTF-8") != words.npos || words.find("utf8") != words.npos;
  }
  return false;
}

constexpr double kRedrawSeconds = 0.1;

}  // namespace

// Open MPI's name first, then PMI's.
int launched_rank() { return environment_number("OMPI_COMM_WORLD_RANK", environment_number("PMI_RANK", 0)); }
int launched_size() { return environment_number("OMPI_COMM_WORLD_SIZE", environment_number("PMI_SIZE", 1)); }

ConsoleLog::ConsoleLog(bool is_quiet)
    : is_quiet_(is_quiet), has_bar_(!is_quiet && draws_over()), is_utf8_(speaks_utf8()) {}

ConsoleLog::~ConsoleLog() {
  if (!line_.empty()) std::cout << std::endl;
}

void ConsoleLog::write(LogLevel level, std::string_view line) {
  if (is_quiet_ && level == LogLevel::kInfo) return;
  const std::lock_guard lock(mutex_);
  if (!line_.empty()) std::cout << "\r\x1b[K" << std::flush;
  if (level == LogLevel::kInfo) {
    std::cout << line << std::endl;
  } else {
    std::cerr << (level == LogLevel::kWarning ? "warning: " : "error: ") << line << std::endl;
  }
  if (!line_.empty()) draw(line_);
}

void ConsoleLog::draw(const std::string& line) {
  line_ = line;
  std::cout << "\r" << line << "\x1b[K" << std::flush;
}

void ConsoleLog::progress(std::string_view line) {
  if (!has_bar_) return write(LogLevel::kInfo, line);
  const std::lock_guard lock(mutex_);
  draw(std::string(line.substr(0, terminal_width() - 1)));
}

void ConsoleLog::show(const trainer::RunProgress& progress) {
  const std::lock_guard lock(mutex_);
  const bool is_new = line_.empty() || progress.phase != phase_ || progress.step == progress.max_steps;
  if (!is_new && seconds_since(drawn_) < kRedrawSeconds) return;
  phase_ = progress.phase, drawn_ = Clock::now();
  // The last column stays free: some terminals begin a new line once it is full.
  draw(progress_bar(progress, terminal_width() - 1, is_utf8_));
}

void check_launch(const comm::World& world) {
  if (world.size() > 1 || std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) return;
  // torchrun, srun, and the launchers of other MPIs. SLURM_NTASKS is not among them: a batch script has it for itself.
  for (const char* name : {"WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"}) {
    const int started = environment_number(name, 1);
    check<ConfigError>(started <= 1, name, " is ", started,
                       ", but this process is alone in Open MPI's world: each of the ", started,
                       " would train all of the data. Start them with: mpirun -np ", started,
                       " fpdist_train ... (under Slurm: srun --mpi=pmix, or launch/slurm.sbatch); for one process on "
                       "purpose unset ",
                       name);
  }
}

int usable_cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

void prepare_environment() {
  const int local_size = launched_local_size(), cores = usable_cores();
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is a failed write, not the end of the process
  if (local_size > cores) setenv("OMPI_MCA_mpi_yield_when_idle", "1", /*overwrite=*/0);
  const int asked_for = environment_number("OMP_NUM_THREADS", 0);
  at::set_num_threads(asked_for > 0 ? asked_for : std::max(1, cores / local_size));
  keep_memory();
  // What containers may have set: float32 would be TF32, with 10 of its 23 bits.
  at::globalContext().setFloat32MatmulPrecision("highest");
  // Each axis has a stream; two that share one of the 8 queues wait for each other.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", /*overwrite=*/0);
}

void prepare_determinism() {
  setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);  // the switch's sums have no fixed order (NVIDIA/nccl#1497)
}

std::string version_text() {
  const std::string mpi = comm::mpi_library();
  return text(version(), ", commit ", commit(), "\ntorch ", TORCH_VERSION, "\nMPI ", mpi.substr(0, mpi.find(',')),
              "\nCUDA " FPDIST_CUDA_BUILT "\n");
}

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;  // what waits for a disk or a socket goes on
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
}

bool stop_asked() { return stop_asked_for != 0; }

int run(const std::function<void()>& body) {
  try {
    body();
    return 0;
  } catch (...) {
    const Failure failure = describe_current_exception();
    report(failure);
    return static_cast<int>(failure.code);
  }
}

int run_on(comm::World& world, const std::function<void()>& body) {
  try {
    body();
    return 0;
  } catch (...) {
    const Failure failure = describe_current_exception();
    const int code = static_cast<int>(failure.code);
    const bool is_alike = world.size() > 1 && every_rank_sees(failure.code) && comm::all_have_come(kFarewell);
    report(failure, is_alike);
    if (world.size() > 1 && !is_alike) world.abort(code, text("rank ", world.rank(), " stopped with exit code ", code));
    return code;
  }
}

}  // namespace fpdist::main_program
