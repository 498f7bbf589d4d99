// Preloaded (lib/libfpdist_fault_calls.so): the calls by which a process changes what is in a folder are counted, and
// one of them ends the process or fails. Counted are write, pwrite, ftruncate, fsync, fdatasync, rename, renameat2,
// unlink, remove, rmdir, mkdir and open with O_CREAT (those with "at" in their names too), on the folder and everything
// below it.
//   FPDIST_FAULT_FOLDER  the folder, absolute
//   FPDIST_FAULT_RANK    for the process with this OMPI_COMM_WORLD_RANK alone; empty: for every process
//   FPDIST_FAULT_AT      number of the call that is meant, from 1; empty: none
//   FPDIST_FAULT         kill (SIGKILL, ahead of the call) | the error of which it fails, undone: ENOSPC | EIO | EINVAL
//   FPDIST_FAULT_COUNT   a file: gets a line "RANK CALLS" when the process ends by itself
//   FPDIST_FAULT_NFS     anything: names cannot be exchanged there (renameat2 says EINVAL, whether it counts or not)
// Settings are looked up at each call, and a forked child counts from 0: a test may set them for its children. What is
// meant says so on standard error. Under mpirun: mpirun -np 4 env LD_PRELOAD=... PROGRAM (mpirun's own shell
// need not have it).
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace {

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// Whether this process is one whose calls are counted.
bool is_meant() {
  return setting("FPDIST_FAULT_RANK").empty() || setting("FPDIST_FAULT_RANK") == setting("OMPI_COMM_WORLD_RANK");
}

std::atomic<long> calls{0};
std::atomic<pid_t> counted{0};

long count_call() {
  const pid_t self = getpid();
  if (counted.exchange(self) != self) calls = 0;
  return ++calls;
}

/// Past what is interposed here.
void say(int file, const std::string& line) { syscall(SYS_write, file, line.data(), line.size()); }

std::string path_of(int descriptor) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  return readlink(link.c_str(), path.data(), path.size() - 1) > 0 ? path.data() : "";
}

std::string path_at(int folder, const char* path) {
  if (path[0] == '/') return path;
  std::array<char, 4096> here{};
  const std::string base = folder != AT_FDCWD ? path_of(folder) : getcwd(here.data(), here.size()) ? here.data() : "";
  return base + "/" + path;
}

/// Whether the call is to fail; errno is set then.
bool fails(const char* call, const std::string& path) {
  const int before = errno;
  const std::string folder = setting("FPDIST_FAULT_FOLDER"), fault = setting("FPDIST_FAULT"),
                    plain = std::filesystem::path(path).lexically_normal().string();
  errno = before;
  if (folder.empty() || !is_meant() || (plain != folder && !plain.starts_with(folder + "/"))) return false;
  const std::string number = std::to_string(count_call());
  if (number != setting("FPDIST_FAULT_AT")) return false;
  say(STDERR_FILENO, "fault: " + fault + " at call " + number + ": " + call + " " + plain + "\n");
  if (fault == "kill") raise(SIGKILL);
  errno = fault == "ENOSPC" ? ENOSPC : fault == "EINVAL" ? EINVAL : EIO;
  return true;
}

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

/// The call `name` of these arguments, unless it is to fail.
template <typename Function, typename... Arguments>
auto pass(const char* name, const std::string& path, Arguments... arguments) {
  using Result = decltype(next<Function>(name)(arguments...));
  return fails(name, path) ? Result{-1} : next<Function>(name)(arguments...);
}

mode_t mode_in(int flags, va_list arguments) {
  return flags & (O_CREAT | O_TMPFILE) ? static_cast<mode_t>(va_arg(arguments, int)) : 0;
}

__attribute__((destructor)) void write_count() {
  const std::string path = setting("FPDIST_FAULT_COUNT"), rank = setting("OMPI_COMM_WORLD_RANK");
  if (path.empty() || !is_meant()) return;
  const int file =
      static_cast<int>(syscall(SYS_openat, AT_FDCWD, path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  say(file, (rank.empty() ? "0" : rank) + " " + std::to_string(calls) + "\n");
  syscall(SYS_close, file);
}

}  // namespace

extern "C" {

ssize_t write(int file, const void* data, size_t bytes) {
  return pass<ssize_t(int, const void*, size_t)>("write", path_of(file), file, data, bytes);
}
ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) {
  return pass<ssize_t(int, const void*, size_t, off_t)>("pwrite", path_of(file), file, data, bytes, offset);
}
ssize_t pwrite64(int file, const void* data, size_t bytes, off64_t offset) {
  return pass<ssize_t(int, const void*, size_t, off64_t)>("pwrite64", path_of(file), file, data, bytes, offset);
}
int ftruncate(int file, off_t length) noexcept {
  return pass<int(int, off_t)>("ftruncate", path_of(file), file, length);
}
int ftruncate64(int file, off64_t length) noexcept {
  return pass<int(int, off64_t)>("ftruncate64", path_of(file), file, length);
}
int fsync(int file) { return pass<int(int)>("fsync", path_of(file), file); }
int fdatasync(int file) { return pass<int(int)>("fdatasync", path_of(file), file); }

int rename(const char* from, const char* to) noexcept {
  return pass<int(const char*, const char*)>("rename", path_at(AT_FDCWD, to), from, to);
}
int renameat(int folder, const char* from, int other, const char* to) noexcept {
  return pass<int(int, const char*, int, const char*)>("renameat", path_at(other, to), folder, from, other, to);
}
int renameat2(int folder, const char* from, int other, const char* to, unsigned flags) noexcept {
  if (!setting("FPDIST_FAULT_NFS").empty() && flags != 0) {
    errno = EINVAL;
    return -1;
  }
  return pass<int(int, const char*, int, const char*, unsigned)>("renameat2", path_at(other, to), folder, from, other,
                                                                 to, flags);
}
int unlink(const char* path) noexcept { return pass<int(const char*)>("unlink", path_at(AT_FDCWD, path), path); }
int unlinkat(int folder, const char* path, int flags) noexcept {
  return pass<int(int, const char*, int)>("unlinkat", path_at(folder, path), folder, path, flags);
}
int remove(const char* path) noexcept { return pass<int(const char*)>("remove", path_at(AT_FDCWD, path), path); }
int rmdir(const char* path) noexcept { return pass<int(const char*)>("rmdir", path_at(AT_FDCWD, path), path); }
int mkdir(const char* path, mode_t mode) noexcept {
  return pass<int(const char*, mode_t)>("mkdir", path_at(AT_FDCWD, path), path, mode);
}
int mkdirat(int folder, const char* path, mode_t mode) noexcept {
  return pass<int(int, const char*, mode_t)>("mkdirat", path_at(folder, path), folder, path, mode);
}

// What opens a file that is there, to read or to write, changes nothing.
#define FPDIST_OPEN(name)                                                                          \
  int name(const char* path, int flags, ...) {                                                     \
    va_list arguments;                                                                             \
    va_start(arguments, flags);                                                                    \
    const mode_t mode = mode_in(flags, arguments);                                                 \
    va_end(arguments);                                                                             \
    if (!(flags & O_CREAT)) return next<int(const char*, int, mode_t)>(#name)(path, flags, mode);  \
    return pass<int(const char*, int, mode_t)>(#name, path_at(AT_FDCWD, path), path, flags, mode); \
  }
#define FPDIST_OPENAT(name)                                                                                    \
  int name(int folder, const char* path, int flags, ...) {                                                     \
    va_list arguments;                                                                                         \
    va_start(arguments, flags);                                                                                \
    const mode_t mode = mode_in(flags, arguments);                                                             \
    va_end(arguments);                                                                                         \
    if (!(flags & O_CREAT)) return next<int(int, const char*, int, mode_t)>(#name)(folder, path, flags, mode); \
    return pass<int(int, const char*, int, mode_t)>(#name, path_at(folder, path), folder, path, flags, mode);  \
  }
FPDIST_OPEN(open)
FPDIST_OPEN(open64)
FPDIST_OPENAT(openat)
FPDIST_OPENAT(openat64)
#undef FPDIST_OPEN
#undef FPDIST_OPENAT
}
