#include "src/main/bench/peak_memory.hpp"

#include <fstream>
#include <string>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"

namespace fpdist::bench {

void reset_peak_memory(comm::Device& device) {
  device.reset_peak_memory();
  if (!device.where().is_cpu()) return;
  try {
    files::AppendFile("/proc/self/clear_refs", files::AppendFile::Open::kGoOn).line("5");  // Linux: VmHWM starts anew
  } catch (const DiskError&) {  // a kernel without it: the peak is that since the process began
  }
}

int64_t peak_memory(const comm::Device& device) {
  if (!device.where().is_cpu()) return device.memory().peak;
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (int64_t kib = 0; word == "VmHWM:" && status >> kib) return kib * 1024;
  return 0;
}

}  // namespace fpdist::bench
