#pragma once
// files: a child process that is spoken to over one socket, its standard input and output.

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "src/files/files.hpp"

namespace fpdist::files {

/// Not for two threads at once. The child is spawned, never forked (MPI and CUDA have threads), inherits no other
/// descriptor, and has a process group of its own: an interrupt from the terminal is for us to handle, and our end,
/// even by SIGKILL, is the end of its input. It inherits the environment but for LD_PRELOAD, which was meant for us.
class Process {
 public:
  /// command[0] is looked up in PATH. Throws DataError when it cannot be started.
  explicit Process(const std::vector<std::string>& command);
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  /// Closes the socket, waits half a second for the child to end by itself, then kills and reaps it.
  ~Process();

  pid_t id() const { return id_; }
  /// Ours of the two sockets, not blocking. Send with MSG_NOSIGNAL: a child that is gone is EPIPE.
  int socket() const { return socket_.get(); }
  /// Reads end of the child's standard error, not blocking.
  int errors() const { return errors_.get(); }
  /// Reads what there is of standard error, so that the child never waits for us to; keeps the last 2 KiB.
  void drain_errors();

  /// Waits for the child to write, and reads up to `bytes` of it; 0 when it has closed its output.
  size_t read(char* into, size_t bytes);

  /// Ends the child, after `grace` for it to end by itself, and says how it ended: "exit code 1", "signal 9 (Killed)",
  /// and the last line that it wrote to standard error.
  std::string end(std::chrono::milliseconds grace);

 private:
  void reap(std::chrono::milliseconds grace);

  FileHandle socket_{-1}, errors_{-1};
  pid_t id_ = -1;
  bool reaped_ = false;
  int status_ = 0;
  std::string last_errors_;
};

}  // namespace fpdist::files
