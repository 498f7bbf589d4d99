#include "src/main/bench/cpu_time.hpp"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <string>
#include <thread>

namespace fpdist::bench {
namespace {

double seconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Seconds that all processors together have worked since the machine started; 0 where the system does not say.
double busy_seconds() {
  std::ifstream stat("/proc/stat");
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, waiting = 0, interrupts = 0, soft = 0;
  if (!(stat >> name >> user >> nice >> system >> idle >> waiting >> interrupts >> soft) || name != "cpu") return 0;
  return (user + nice + system + interrupts + soft) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

double process_cpu_seconds() { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }

CpuUse::CpuUse() : own_(process_cpu_seconds()), busy_(busy_seconds()), wall_(seconds_of(CLOCK_MONOTONIC)) {}

CpuUse::Used CpuUse::since() const {
  const double own = process_cpu_seconds() - own_, wall = seconds_of(CLOCK_MONOTONIC) - wall_;
  const double all = wall * std::max(1u, std::thread::hardware_concurrency());
  return {.seconds = own, .others = all > 0 ? std::clamp((busy_seconds() - busy_ - own) / all, 0.0, 1.0) : 0};
}

}  // namespace fpdist::bench
