#include "src/comm/cuda/nccl_context.hpp"

#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist::comm {
namespace {

constexpr std::chrono::milliseconds kLook(50);    // between the watchdog's looks
constexpr std::chrono::seconds kCulpritsTime(1);  // for a rank that failed to end the job with its own exit code

}  // namespace

NcclContext::NcclContext(c10::DeviceIndex device, int max_ctas)
    : device_(device), max_ctas_(max_ctas), watchdog_([this] { run_watchdog(); }) {}

NcclContext::~NcclContext() {
  {
    const auto held = lock();
    stop_ = true;
  }
  stop_changed_.notify_all();
  watchdog_.join();
}

void NcclContext::add(ncclComm_t comm) { comms_.push_back(comm); }

bool NcclContext::remove(ncclComm_t comm) { return std::erase(comms_, comm) > 0; }

void NcclContext::watch(std::shared_ptr<at::cuda::CUDAEvent> end, std::string place, std::chrono::milliseconds timeout,
                        std::shared_ptr<const Journal> journal) {
  watched_.push_back({std::move(end), std::move(place), Clock::now(), timeout, std::move(journal)});
}

void NcclContext::check_health(const std::string& place) const {
  const auto held = lock();
  check_locked(place);
}

void NcclContext::check_locked(const std::string& place) const {
  check<CommError>(!dead_, place, ": the job was aborted: ", reason_);
}

void NcclContext::let_culprit_speak(ncclResult_t error) {
  if (error == ncclRemoteError) std::this_thread::sleep_for(kCulpritsTime);
}

void NcclContext::fail(const std::string& reason) noexcept {
  const auto held = lock();
  fail_locked(reason);
}

void NcclContext::fail_locked(const std::string& reason) noexcept {
  if (dead_) return;
  dead_ = true;
  reason_ = reason;
  const c10::cuda::CUDAGuard guard(device_);
  ncclGroupStart();  // all are told before any is freed: one may wait for another's kernels
  for (const ncclComm_t comm : comms_) ncclCommAbort(comm);
  ncclGroupEnd();
  comms_.clear();
  watched_.clear();
}

std::string NcclContext::look_locked() {
  for (const ncclComm_t comm : comms_) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
    if (asked != ncclSuccess) state = asked;
    if (state != ncclSuccess && state != ncclInProgress) {
      let_culprit_speak(state);
      return text("NCCL says ", ncclGetErrorString(state), ": ", ncclGetLastError(comm));
    }
  }
  std::erase_if(watched_, [](const Watched& watched) { return watched.end->query(); });
  const auto now = Clock::now();
  for (const Watched& watched : watched_) {
    if (now < std::max(watched.begin, watched.journal->last_sign().heard) + watched.timeout) continue;
    return text(watched.place, ": not done within ", to_seconds(watched.timeout),
                " s; a peer died, was stopped, or is not in this call. Its log says where it was; a step that really "
                "takes longer needs a longer timeout");
  }
  return "";
}

void NcclContext::run_watchdog() {
  c10::cuda::set_device(device_);  // a new thread's is 0, and asking an event there would make a context on it
  auto held = lock();
  while (!stop_changed_.wait_for(held, kLook, [this] { return stop_; })) {
    if (dead_) continue;
    std::string reason;
    try {
      reason = look_locked();
    } catch (const std::exception& error) {  // CUDA itself has failed
      reason = error.what();
    }
    if (!reason.empty()) fail_locked(reason);
  }
}

}  // namespace fpdist::comm
