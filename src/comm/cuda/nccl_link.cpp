// NCCL without blocking calls: every call returns at once, and what it began is polled against the deadline, so that no
// call here hangs on a peer that is gone.
#include "src/comm/cuda/nccl_link.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <string_view>
#include <thread>

#include "fpdist/core/error.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"

namespace fpdist::comm {
namespace {

constexpr std::chrono::microseconds kPoll(50);  // between looks at what NCCL has begun
constexpr std::chrono::microseconds kSpin(30);  // a call between connected ranks begins sooner than a sleep ends
constexpr std::chrono::seconds kFarewell(10);   // the longest that an end waits for its peers

ncclDataType_t type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kInt:
      return ncclInt32;
    case at::kLong:
      return ncclInt64;
    case at::kByte:
      return ncclUint8;
    default:
      throw ShapeError(text("NCCL is not used with tensors of ", c10::toString(tensor.scalar_type())));
  }
}

ncclRedOp_t operation_of(ReduceOp op) {
  return op == ReduceOp::kSum ? ncclSum : op == ReduceOp::kMin ? ncclMin : ncclMax;
}

size_t count_of(const at::Tensor& tensor) { return index(tensor.numel()); }

/// Most thread blocks of an axis' kernels where nobody says. A kernel that waits for its peer holds its blocks'
/// processors all the while, and products run beside; what travels there needs few. 0: NCCL's own choice, 16 and more.
int most_blocks(std::string_view axis) {
  if (axis == "pp" || axis == "pp_gradient") return 4;  // waits for a neighbour's whole op
  if (axis == "cp" || axis == "cp_gradient") return 8;  // beside attention
  if (axis == "dp_cp") return 16;                       // beside the last backward
  return 0;
}

bool is_failure(ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; }

}  // namespace

class NcclLink::StreamWork final : public Work {
 public:
  StreamWork(std::shared_ptr<NcclContext> context, std::shared_ptr<at::cuda::CUDAEvent> end, std::string place,
             std::vector<at::Tensor> tensors, c10::cuda::CUDAStream stream)
      : context_(std::move(context)),
        end_(std::move(end)),
        place_(std::move(place)),
        tensors_(std::move(tensors)),
        stream_(stream),
        user_(c10::cuda::getCurrentCUDAStream(context_->device())) {}
  /// A call that nobody waited for: its tensors' memory is reused when the link's stream has come past it.
  ~StreamWork() override {
    try {
      for (const at::Tensor& tensor : tensors_)
        c10::cuda::CUDACachingAllocator::recordStream(tensor.storage().data_ptr(), stream_);
    } catch (const std::exception&) {  // CUDA itself has failed: the next call says so
    }
  }
  StreamWork(const StreamWork&) = delete;
  StreamWork& operator=(const StreamWork&) = delete;
  void wait() override {
    context_->check_health(place_);
    const auto now = c10::cuda::getCurrentCUDAStream(context_->device());
    end_->block(now);
    if (now == user_) tensors_.clear();  // whoever gets their memory from here on stands behind the end
  }
  bool done() override { return end_->query(); }

 private:
  std::shared_ptr<NcclContext> context_;
  std::shared_ptr<at::cuda::CUDAEvent> end_;
  std::string place_;
  std::vector<at::Tensor> tensors_;
  c10::cuda::CUDAStream stream_, user_;  ///< the link's, and the one that the call was made on
};

NcclLink::NcclLink(std::shared_ptr<NcclContext> context, Communicator& host, bool spans_hosts)
    : context_(std::move(context)),
      axis_(host.axis()),
      timeout_(host.options().timeout),
      journal_(host.journal()),
      stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, context_->device())),
      spans_hosts_(spans_hosts),
      exceptions_(std::uncaught_exceptions()) {
  connect(host);
}

/// The axis' NCCL id, made by its first rank. One that could not make it tells the others with zeros.
ncclUniqueId NcclLink::share_id(Communicator& host) {
  at::Tensor bytes = at::zeros({static_cast<int64_t>(sizeof(ncclUniqueId))}, at::kByte);
  ncclUniqueId id{};
  ncclResult_t made = ncclSuccess;
  if (host.rank() == 0) {
    made = ncclGetUniqueId(&id);
    if (made == ncclSuccess) std::memcpy(bytes.data_ptr(), &id, sizeof id);
  }
  host.broadcast(bytes, 0);
  check<CommError>(bytes.any().item<bool>(), "axis ", axis_, ", rank ", host.rank(),
                   ": the axis' first rank could not start NCCL (", ncclGetErrorString(made), ": ",
                   ncclGetLastError(nullptr), "); NCCL_DEBUG=INFO says more, NCCL_SOCKET_IFNAME names the network");
  std::memcpy(&id, bytes.data_ptr(), sizeof id);
  return id;
}

void NcclLink::connect(Communicator& host) {
  const ncclUniqueId id = share_id(host);
  const std::string place = text("axis ", axis_, ", rank ", host.rank(), ": connecting NCCL");
  const c10::cuda::CUDAGuard guard(context_->device());
  Lock lock = context_->lock();
  context_->check_locked(place);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.commName = axis_.c_str();
  if (const int most = context_->max_ctas() > 0 ? context_->max_ctas() : most_blocks(axis_); most > 0) {
    config.maxCTAs = most;
    config.minCTAs = 1;
  }
  const ncclResult_t begun = ncclCommInitRankConfig(&comm_, host.size(), id, host.rank(), &config);
  if (comm_) context_->add(comm_);
  check_result(begun, place);
  settle(lock, place);
}

void NcclLink::check_result(ncclResult_t result, const std::string& place) {
  if (!is_failure(result)) return;
  NcclContext::let_culprit_speak(result);
  const std::string reason = text(place, ": NCCL says ", ncclGetErrorString(result), ": ", ncclGetLastError(comm_),
                                  "; NCCL_DEBUG=INFO says more");
  context_->fail_locked(reason);
  throw CommError(reason);
}

void NcclLink::settle(Lock& lock, const std::string& place) {
  const auto begin = Clock::now();
  const OpenWait waiting(*journal_);
  while (true) {
    context_->check_locked(place);
    ncclResult_t state = ncclSuccess;
    check_result(ncclCommGetAsyncError(comm_, &state), place);
    check_result(state, place);
    if (state == ncclSuccess) return;
    if (Clock::now() >= std::max(begin, journal_->last_sign().heard) + timeout_) {
      const std::string reason =
          text(place, ": NCCL is not ready within ", to_seconds(timeout_), " s; a peer may be lost");
      context_->fail_locked(reason);
      throw CommError(reason);
    }
    lock.unlock();
    if (Clock::now() >= begin + kSpin) std::this_thread::sleep_for(kPoll);
    lock.lock();
  }
}

std::unique_ptr<Work> NcclLink::issue(const Place& place, const std::vector<at::Tensor>& tensors,
                                      const std::function<ncclResult_t()>& queue) {
  const std::string said = text(place);
  const c10::cuda::CUDAGuard guard(context_->device());
  at::cuda::CUDAEvent begin;
  begin.record(c10::cuda::getCurrentCUDAStream(context_->device()));
  begin.block(stream_);
  Lock lock = context_->lock();
  context_->check_locked(said);
  check_result(ncclGroupStart(), said);
  const ncclResult_t queued = queue();
  const ncclResult_t ended = ncclGroupEnd();  // also after a failure: the group must not stay open
  check_result(queued, said);
  check_result(ended, said);
  settle(lock, said);  // the kernel is on the stream only now
  auto end = std::make_shared<at::cuda::CUDAEvent>();
  end->record(stream_);
  context_->watch(end, said, timeout_, journal_);
  return std::make_unique<StreamWork>(context_, std::move(end), said, tensors, stream_);
}

std::unique_ptr<Work> NcclLink::group(const GroupMessages& messages, const Place& place) {
  std::vector<at::Tensor> tensors;
  for (const GroupMessage& message : messages.sends) tensors.push_back(message.tensor);
  for (const GroupMessage& message : messages.receives) tensors.push_back(message.tensor);
  return issue(place, tensors, [&] {
    for (const auto& [tensor, peer] : messages.sends) {
      const auto sent = ncclSend(tensor.data_ptr(), count_of(tensor), type_of(tensor), peer, comm_, stream_.stream());
      if (is_failure(sent)) return sent;
    }
    for (const auto& [tensor, peer] : messages.receives) {
      const auto taken = ncclRecv(tensor.data_ptr(), count_of(tensor), type_of(tensor), peer, comm_, stream_.stream());
      if (is_failure(taken)) return taken;
    }
    return ncclSuccess;
  });
}

std::unique_ptr<Work> NcclLink::all_reduce(const at::Tensor& tensor, ReduceOp op, const Place& place) {
  return issue(place, {tensor}, [&] {
    return ncclAllReduce(tensor.data_ptr(), tensor.data_ptr(), count_of(tensor), type_of(tensor), operation_of(op),
                         comm_, stream_.stream());
  });
}

std::unique_ptr<Work> NcclLink::all_gather(const at::Tensor& mine, const at::Tensor& out, const Place& place) {
  return issue(place, {mine, out}, [&] {
    return ncclAllGather(mine.data_ptr(), out.data_ptr(), count_of(mine), type_of(mine), comm_, stream_.stream());
  });
}

std::unique_ptr<Work> NcclLink::reduce_scatter(const at::Tensor& in, const at::Tensor& mine, const Place& place) {
  return issue(place, {in, mine}, [&] {
    return ncclReduceScatter(in.data_ptr(), mine.data_ptr(), count_of(mine), type_of(mine), ncclSum, comm_,
                             stream_.stream());
  });
}

std::unique_ptr<Work> NcclLink::broadcast(const at::Tensor& tensor, int root, const Place& place) {
  return issue(place, {tensor}, [&] {
    return ncclBroadcast(tensor.data_ptr(), tensor.data_ptr(), count_of(tensor), type_of(tensor), root, comm_,
                         stream_.stream());
  });
}

void NcclLink::keep_buffer(const at::Tensor& buffer) {
  if (buffer.numel() == 0 || !spans_hosts_) return;
  const std::string place = text("axis ", axis_, ": keep_buffer");
  const c10::cuda::CUDAGuard guard(context_->device());
  Lock lock = context_->lock();
  context_->check_locked(place);
  Kept kept{.buffer = buffer};
  check_result(ncclCommRegister(comm_, buffer.data_ptr(), buffer.nbytes(), &kept.handle), place);
  settle(lock, place);
  kept_.push_back(std::move(kept));
}

void NcclLink::check_health() const { context_->check_health("axis " + axis_); }

void NcclLink::abort(const std::string& reason) noexcept { context_->fail(reason); }

/// Lets the peers' last operations end; false when they do not in time.
bool NcclLink::finalize() noexcept {
  for (const Kept& kept : kept_) ncclCommDeregister(comm_, kept.handle);
  if (is_failure(ncclCommFinalize(comm_))) return false;
  const auto deadline = Clock::now() + std::min<std::chrono::milliseconds>(timeout_, kFarewell);
  ncclResult_t state = ncclInProgress;
  while (ncclCommGetAsyncError(comm_, &state) == ncclSuccess && state == ncclInProgress && Clock::now() < deadline) {
    std::this_thread::sleep_for(kPoll);
  }
  return state == ncclSuccess;
}

NcclLink::~NcclLink() {
  if (!comm_) return;
  const Lock lock = context_->lock();
  if (!context_->remove(comm_)) return;  // an abort was quicker
  const c10::cuda::CUDAGuard guard(context_->device());
  const bool is_unwinding = std::uncaught_exceptions() > exceptions_;
  if (!is_unwinding && finalize()) {
    ncclCommDestroy(comm_);
    return;
  }
  // All of them at once: an abort waits for its kernels, which may stand behind another communicator's that wait for a
  // peer, and whoever waits here holds the lock that the watchdog needs.
  context_->add(comm_);
  context_->fail_locked(is_unwinding ? "an error is ending this rank"
                                     : "axis " + axis_ + ": its peers did not end in time");
}

}  // namespace fpdist::comm
