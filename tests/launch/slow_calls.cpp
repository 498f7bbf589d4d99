// Preloaded: one call of one rank takes its time, as on a disk, a network or a driver that is slow.
//   FPDIST_SLOW_CALL     fsync | mmap | read | launch (of a kernel of ours)
//   FPDIST_SLOW_RANK     the rank whose call it is
//   FPDIST_SLOW_FILE     for a file whose name holds this, empty: whatever file; of launches the first once it is there
//   FPDIST_SLOW_SECONDS  the first call that is meant takes so long
//   FPDIST_SLOW_NOTE     a file that is there once it has begun
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool is_of_file(int descriptor, const std::string& part) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  return readlink(link.c_str(), path.data(), path.size() - 1) > 0 &&
         std::string(path.data()).find(part) != std::string::npos;
}

void be_slow(const char* call, int descriptor = -1) {
  static std::atomic<bool> done{false};
  if (done || setting("FPDIST_SLOW_CALL") != call || setting("FPDIST_SLOW_RANK") != setting("OMPI_COMM_WORLD_RANK"))
    return;
  if (descriptor >= 0 && !is_of_file(descriptor, setting("FPDIST_SLOW_FILE"))) return;
  if (done.exchange(true)) return;
  if (std::FILE* note = std::fopen(setting("FPDIST_SLOW_NOTE").c_str(), "w")) std::fclose(note);
  sleep(static_cast<unsigned>(std::atoi(setting("FPDIST_SLOW_SECONDS").c_str())));
}

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int fsync(int file) {
  be_slow("fsync", file);
  return next<int(int)>("fsync")(file);
}

void* mmap(void* address, size_t length, int protection, int flags, int file, off_t offset) {
  if (file >= 0) be_slow("mmap", file);
  return next<void*(void*, size_t, int, int, int, off_t)>("mmap")(address, length, protection, flags, file, offset);
}

ssize_t read(int file, void* buffer, size_t bytes) {
  be_slow("read", file);
  return next<ssize_t(int, void*, size_t)>("read")(file, buffer, bytes);
}

struct Extent {  // as CUDA's dim3
  unsigned x, y, z;
};

int __cudaLaunchKernel(void* kernel, Extent grid, Extent block, void** arguments, size_t shared, void* stream) {
  if (access(setting("FPDIST_SLOW_FILE").c_str(), F_OK) == 0) be_slow("launch");
  return next<int(void*, Extent, Extent, void**, size_t, void*)>("__cudaLaunchKernel")(kernel, grid, block, arguments,
                                                                                       shared, stream);
}
}
