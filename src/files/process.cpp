#include "src/files/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <thread>

#include "fpdist/core/error.hpp"
#include "src/core/clock.hpp"

namespace fpdist::files {
namespace {

constexpr size_t kKeptErrors = 2048;

/// What posix_spawn asks for, released at the end.
class SpawnSettings {
 public:
  SpawnSettings(int child_socket, int child_errors) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_adddup2(&actions_, child_socket, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, child_socket, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, child_errors, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setpgroup(&attributes_, 0);
    sigset_t all, none;
    sigfillset(&all), sigemptyset(&none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

std::vector<char*> inherited_environment() {
  std::vector<char*> kept;
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!std::string_view(*entry).starts_with("LD_PRELOAD=")) kept.push_back(*entry);
  kept.push_back(nullptr);
  return kept;
}

std::string last_line(std::string_view words) {
  while (!words.empty() && (words.back() == '\n' || words.back() == ' ')) words.remove_suffix(1);
  const size_t at = words.rfind('\n');
  return std::string(at == std::string_view::npos ? words : words.substr(at + 1));
}

}  // namespace

Process::Process(const std::vector<std::string>& command) {
  std::array<int, 2> sockets{}, errors{};
  check<DataError>(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) == 0,
                   "no socket for a process of our own: ", std::strerror(errno));
  socket_.take(sockets[0]);
  const FileHandle child_socket(sockets[1]);
  check<DataError>(::pipe2(errors.data(), O_CLOEXEC) == 0, "no pipe for a process of our own: ", std::strerror(errno));
  errors_.take(errors[0]);
  const FileHandle child_errors(errors[1]);
  for (const int ours : {socket_.get(), errors_.get()}) ::fcntl(ours, F_SETFL, ::fcntl(ours, F_GETFL) | O_NONBLOCK);

  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const SpawnSettings settings(child_socket.get(), child_errors.get());
  const std::vector<char*> environment = inherited_environment();
  const int error = ::posix_spawnp(&id_, arguments[0], settings.actions(), settings.attributes(), arguments.data(),
                                   environment.data());
  if (error != 0) id_ = -1, reaped_ = true;
  check<DataError>(error == 0, command[0], " cannot be started: ", std::strerror(error));
}

Process::~Process() {
  if (!reaped_) reap(std::chrono::milliseconds(500));
}

void Process::drain_errors() {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = ::read(errors_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    last_errors_.append(buffer.data(), static_cast<size_t>(got));
    if (last_errors_.size() > kKeptErrors) last_errors_.erase(0, last_errors_.size() - kKeptErrors);
  }
}

size_t Process::read(char* into, size_t bytes) {
  for (;;) {
    const ssize_t got = ::read(socket_.get(), into, bytes);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EAGAIN && errno != EINTR) return 0;  // reset: it is gone
    std::array<pollfd, 2> polled{{{socket_.get(), POLLIN, 0}, {errors_.get(), POLLIN, 0}}};
    ::poll(polled.data(), polled.size(), /*milliseconds=*/1000);
    drain_errors();
  }
}

void Process::reap(std::chrono::milliseconds grace) {
  socket_.close();
  const auto start = Clock::now();
  for (;;) {
    const pid_t ended = ::waitpid(id_, &status_, WNOHANG);
    if (ended == id_ || (ended < 0 && errno != EINTR)) break;
    if (Clock::now() - start >= grace) {
      ::kill(-id_, SIGKILL);  // it leads its group
      while (::waitpid(id_, &status_, 0) < 0 && errno == EINTR) {
      }
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  reaped_ = true;
}

std::string Process::end(std::chrono::milliseconds grace) {
  if (!reaped_) reap(grace);
  drain_errors();
  const std::string words = last_line(last_errors_);
  const std::string how = WIFSIGNALED(status_)
                              ? text("signal ", WTERMSIG(status_), " (", ::strsignal(WTERMSIG(status_)), ")")
                              : text("exit code ", WEXITSTATUS(status_));
  return words.empty() ? how : text(how, ", its last words: ", words);
}

}  // namespace fpdist::files
