#pragma once
// The emulated NCCL's messages: a Unix socket for each ordered pair of ranks. A receiver says first what it expects, so
// a send begins when its receive is there, and one of another size or kind is an error instead of a hang.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace fpdist::emulated {

struct Transfer {
  int peer = 0;
  void* data = nullptr;
  size_t bytes = 0;
  int64_t kind = 0;  ///< which call it belongs to; both ends must say the same
};

class Wire {
 public:
  Wire(std::string name, int rank, int size) : name_(std::move(name)), rank_(rank), size_(size) {}
  ~Wire() { close(); }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  /// Throws std::runtime_error when given up. Collective.
  void connect();
  /// All at once, as a group's. Throws std::runtime_error when a peer is gone or says something else, or given up.
  void exchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives);
  /// Whoever waits stops waiting, here and at the peers.
  void give_up();
  bool given_up() const { return given_up_; }

 private:
  void send(const Transfer& transfer);
  void write_all(int socket, const void* data, size_t bytes);
  void read_all(int socket, void* data, size_t bytes);
  void check_alive() const;
  void close();

  std::string name_;
  int rank_ = 0, size_ = 1;
  std::vector<int> out_, in_;
  std::mutex mutex_;
  std::atomic<bool> given_up_ = false;
};

}  // namespace fpdist::emulated
