#pragma once
// The emulated GPU's streams and events: a thread a stream, which does what was queued in order. The host never waits
// when it queues, so a program that forgets to wait for a message reads what is not there yet, as on a GPU.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace fpdist::emulated {

/// What was recorded last has happened once `done` has caught up with `recorded`.
class Event {
 public:
  using Clock = std::chrono::steady_clock;
  uint64_t record();                 ///< a new generation
  void happen(uint64_t generation);  ///< on the stream's thread
  void wait(uint64_t generation);
  void wait() { wait(recorded()); }
  bool query();
  uint64_t recorded();
  Clock::time_point when();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t recorded_ = 0, done_ = 0;
  Clock::time_point when_;
};

/// Never destroyed: the process may end while its thread waits.
class Stream {
 public:
  Stream();
  void push(std::function<void()> work);
  void drain();
  bool idle();

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool is_busy_ = false, has_thread_ = false;
};

/// The stream behind a handle; null, 1 and 2 are the default stream.
Stream& stream_of(void* handle);
void drain_all();
/// Returns once everything on the current stream of this thread has been done: host code may touch its tensors.
void drain_current();

/// Whenever the host waits for the device.
void count_wait();

}  // namespace fpdist::emulated

/// How often the host has waited since the process began (tests/support/device_waits.hpp).
extern "C" int64_t fpdist_emulated_waits();
