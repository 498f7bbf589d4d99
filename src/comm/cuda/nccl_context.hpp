#pragma once
// comm, private: NcclContext, what all NCCL communicators of a device share: one lock around every NCCL call, one
// verdict when one of them fails, and the watchdog that finds out while the host is blocked in something else.

#include <ATen/cuda/CUDAEvent.h>
#include <c10/core/Device.h>
#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "src/comm/journal.hpp"
#include "src/core/clock.hpp"

namespace fpdist::comm {

class NcclContext {
 public:
  NcclContext(c10::DeviceIndex device, int max_ctas);
  /// Stops the watchdog; the communicators are gone by then.
  ~NcclContext();
  NcclContext(const NcclContext&) = delete;
  NcclContext& operator=(const NcclContext&) = delete;

  c10::DeviceIndex device() const { return device_; }
  int max_ctas() const { return max_ctas_; }
  /// Held around every NCCL call: an abort frees what the calls use.
  std::unique_lock<std::mutex> lock() const { return std::unique_lock(mutex_); }

  void add(ncclComm_t comm);
  /// Takes `comm` out; false when an abort has freed it.
  bool remove(ncclComm_t comm);
  /// `end` has to be reached within `timeout` from now or from the last sign of life that `journal` has heard, or the
  /// job is dead. `place` is said then.
  void watch(std::shared_ptr<at::cuda::CUDAEvent> end, std::string place, std::chrono::milliseconds timeout,
             std::shared_ptr<const Journal> journal);
  /// Throws CommError starting with `place` when the job is dead.
  void check_health(const std::string& place) const;
  /// check_health under the lock that the caller holds.
  void check_locked(const std::string& place) const;
  /// Waits a moment where `error` only says that a peer's connection broke. A rank that fails closes its connections on
  /// its way out, before MPI hears of it: its peers hold back what they see of that, so that the job ends with its exit
  /// code and not with theirs.
  static void let_culprit_speak(ncclResult_t error);
  /// Ends all communicators: kernels that wait for a peer leave. The first reason stays.
  void fail(const std::string& reason) noexcept;
  void fail_locked(const std::string& reason) noexcept;

 private:
  struct Watched {
    std::shared_ptr<at::cuda::CUDAEvent> end;
    std::string place;
    Clock::time_point begin;
    std::chrono::milliseconds timeout;
    std::shared_ptr<const Journal> journal;
  };
  void run_watchdog();
  /// Why the job is dead, if it is.
  std::string look_locked();

  const c10::DeviceIndex device_;
  const int max_ctas_;
  mutable std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false, dead_ = false;
  std::string reason_;
  std::vector<ncclComm_t> comms_;
  std::deque<Watched> watched_;
  std::thread watchdog_;
};

}  // namespace fpdist::comm
