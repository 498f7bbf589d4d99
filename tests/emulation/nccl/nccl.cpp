// NCCL's calls that fpdist makes, as non-blocking communicators answer: what is begun is in progress for a while, and
// the kernels reach the stream late. A communicator's first message in a direction and its first collective connect the
// ranks: they are in progress until the peer has made the same call. An abort or end outside a group returns when the
// communicator's kernels have left the stream, as the real one waits for its own: what stands before them there must go
// first. Sums are in ascending order of ranks. A failure is
// an asynchronous error, and the stream stands still until the communicator is aborted, as a kernel that waits for a
// peer would.
#include <ATen/ATen.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/emulation/cuda/streams.hpp"
#include "tests/emulation/nccl/nccl_counts.hpp"
#include "tests/emulation/nccl/nccl_wire.hpp"

namespace fpdist::emulated {
namespace {

constexpr std::chrono::microseconds kLate(100);
constexpr std::chrono::seconds kHang(3);  // longer than anything takes that ends

enum class Kind : int64_t { kMessage = 1, kAllReduce, kAllGather, kReduceScatter, kBroadcast };

struct Call {
  Kind kind = Kind::kMessage;
  const void* from = nullptr;
  void* into = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  ncclRedOp_t op = ncclSum;
  int peer = 0;  ///< of a message; the root of a broadcast
  cudaStream_t stream = nullptr;
};

at::ScalarType type_of(ncclDataType_t type) {
  switch (type) {
    case ncclFloat64:
      return at::kDouble;
    case ncclBfloat16:
      return at::kBFloat16;
    case ncclInt32:
      return at::kInt;
    case ncclInt64:
      return at::kLong;
    case ncclUint8:
      return at::kByte;
    default:
      return at::kFloat;
  }
}
at::Tensor over(const void* data, int64_t count, ncclDataType_t type) {
  return at::from_blob(const_cast<void*>(data), {count}, type_of(type));
}

}  // namespace
}  // namespace fpdist::emulated

using namespace fpdist::emulated;

struct ncclComm {
  ncclComm(const std::string& name, int own_rank, int ranks)
      : wire(name, own_rank, ranks), hosts(name + "-hosts", own_rank, ranks), rank(own_rank), size(ranks) {}
  Wire wire, hosts;  ///< the kernels' and the connections'
  int rank, size;
  std::atomic<ncclResult_t> state = ncclInProgress;
  std::atomic<int> queued = 0;  ///< groups that are not done
  std::atomic<int64_t> kept = 0;
  std::set<std::pair<Kind, int>> connected;  ///< to peer p: p, from it: -1 - p; collectives: 0
  std::mutex mutex;
  std::string error;

  void give_up() { wire.give_up(), hosts.give_up(); }
  void fail(const std::string& reason) {
    {
      const std::lock_guard lock(mutex);
      error = reason;
    }
    state = ncclRemoteError;
  }
};

namespace fpdist::emulated {
namespace {

void collect(ncclComm& comm, const Call& call) {
  const auto count = static_cast<int64_t>(call.count);
  const int64_t kind = static_cast<int64_t>(call.kind) * 16 + static_cast<int64_t>(call.type);
  const at::Tensor mine = over(call.from, call.kind == Kind::kReduceScatter ? count * comm.size : count, call.type);
  const size_t bytes = call.count * static_cast<size_t>(mine.element_size());
  std::vector<at::Tensor> part;
  std::vector<Transfer> sends, receives;
  const bool is_broadcast = call.kind == Kind::kBroadcast;
  for (int peer = 0; peer < comm.size; ++peer) {
    at::Tensor piece = call.kind == Kind::kReduceScatter ? mine.narrow(0, peer * count, count) : mine;
    part.push_back(peer == comm.rank ? piece.clone() : at::empty({count}, mine.options()));
    if (peer == comm.rank) continue;
    if (!is_broadcast || call.peer == comm.rank) sends.push_back({peer, piece.data_ptr(), bytes, kind});
    if (!is_broadcast || call.peer == peer) receives.push_back({peer, part.back().data_ptr(), bytes, kind});
  }
  comm.wire.exchange(sends, receives);
  if (is_broadcast) {
    over(call.into, count, call.type).copy_(part[static_cast<size_t>(call.peer)]);
    return;
  }
  if (call.kind == Kind::kAllGather) {
    over(call.into, count * comm.size, call.type).copy_(at::cat(part));
    return;
  }
  at::Tensor result = part.front();
  for (size_t peer = 1; peer < part.size(); ++peer) {
    if (call.op == ncclSum) result = result + part[peer];
    if (call.op == ncclMin) result = at::minimum(result, part[peer]);
    if (call.op == ncclMax) result = at::maximum(result, part[peer]);
  }
  over(call.into, count, call.type).copy_(result);
}

/// On the stream's thread.
void run_group(ncclComm& comm, const std::vector<Call>& calls) {
  try {
    std::vector<Transfer> sends, receives;
    for (const Call& call : calls) {
      if (call.kind != Kind::kMessage) continue;
      const size_t bytes = call.count * c10::elementSize(type_of(call.type));
      const auto kind = static_cast<int64_t>(call.type);
      if (call.from) sends.push_back({call.peer, const_cast<void*>(call.from), bytes, kind});
      if (call.into) receives.push_back({call.peer, call.into, bytes, kind});
    }
    comm.wire.exchange(sends, receives);
    for (const Call& call : calls)
      if (call.kind != Kind::kMessage) collect(comm, call);
  } catch (const std::exception& error) {
    if (!comm.wire.given_up()) comm.fail(error.what());
    while (!comm.wire.given_up()) std::this_thread::sleep_for(kLate);
  }
  --comm.queued;
}

/// Returns when the peers have made their first call of these kinds, too.
void connect_hosts(ncclComm& comm, const std::vector<Call>& calls) {
  char hello = 0;
  std::vector<Transfer> sends, receives;
  const auto meet = [&](Kind kind, int peer, std::vector<Transfer>& into) {
    into.push_back({peer, &hello, sizeof hello, static_cast<int64_t>(kind)});
  };
  for (const Call& call : calls) {
    const bool is_message = call.kind == Kind::kMessage;
    if (is_message && call.peer == comm.rank) continue;
    const int way = !is_message ? 0 : call.from ? call.peer : -1 - call.peer;
    if (!comm.connected.emplace(is_message ? call.kind : Kind::kAllReduce, way).second) continue;
    if (is_message) meet(call.kind, call.peer, call.from ? sends : receives);
    for (int peer = 0; !is_message && peer < comm.size; ++peer) {
      if (peer == comm.rank) continue;
      meet(Kind::kAllReduce, peer, sends), meet(Kind::kAllReduce, peer, receives);
    }
  }
  comm.hosts.exchange(sends, receives);
}

struct Group {
  int depth = 0;
  std::vector<std::pair<ncclComm*, Call>> calls;
};
thread_local Group group;
std::atomic<int64_t> registered = 0;
std::mutex blocks_mutex;
std::map<std::string, int> blocks_of;  ///< maxCTAs by the communicator's name

ncclResult_t launch(ncclComm* comm, std::vector<Call> calls) {
  if (comm->state != ncclSuccess) return ncclInvalidUsage;  // the one before was not waited for
  comm->state = ncclInProgress;
  ++comm->queued;
  std::thread([comm, calls = std::move(calls)] {
    std::this_thread::sleep_for(kLate);
    try {
      connect_hosts(*comm, calls);
    } catch (const std::exception& error) {
      if (!comm->wire.given_up()) comm->fail(error.what());
      --comm->queued;
      return;
    }
    stream_of(calls.front().stream).push([comm, calls] { run_group(*comm, calls); });
    ncclResult_t expected = ncclInProgress;
    comm->state.compare_exchange_strong(expected, ncclSuccess);
  }).detach();
  return ncclInProgress;
}

ncclResult_t end_group() {
  if (group.depth == 0) return ncclInvalidUsage;
  if (--group.depth > 0) return ncclSuccess;
  const auto calls = std::exchange(group.calls, {});
  std::vector<std::pair<ncclComm*, std::vector<Call>>> by_comm;
  for (const auto& [comm, call] : calls) {
    if (by_comm.empty() || by_comm.back().first != comm) by_comm.push_back({comm, {}});
    if (!by_comm.back().second.empty() && by_comm.back().second.front().stream != call.stream) return ncclInvalidUsage;
    by_comm.back().second.push_back(call);
  }
  ncclResult_t result = ncclSuccess;
  for (auto& [comm, all] : by_comm) {
    const ncclResult_t launched = launch(comm, std::move(all));
    if (launched != ncclInProgress) return launched;
    result = ncclInProgress;
  }
  return result;
}

ncclResult_t wait_for_kernels(const ncclComm& comm) {
  const auto deadline = std::chrono::steady_clock::now() + kHang;
  while (group.depth == 0 && comm.queued > 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      std::fputs("emulated NCCL: an abort waits for ever: another communicator's kernel is before this one's\n",
                 stderr);
      std::abort();
    }
    std::this_thread::sleep_for(kLate);
  }
  return ncclSuccess;
}

ncclResult_t queue(ncclComm* comm, const Call& call) {
  if (call.peer < 0 || call.peer >= comm->size) return ncclInvalidArgument;
  ++group.depth;
  group.calls.emplace_back(comm, call);
  return end_group();
}

}  // namespace
}  // namespace fpdist::emulated

extern "C" {

int64_t fpdist_emulated_registered() { return registered; }
int fpdist_emulated_max_blocks(const char* name) {
  const std::lock_guard lock(blocks_mutex);
  const auto found = blocks_of.find(name);
  return found == blocks_of.end() ? NCCL_CONFIG_UNDEF_INT : found->second;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::random_device random;
  *id = {};
  std::snprintf(id->internal, sizeof id->internal, "fpdist-emulated-%08x%08x", random(), random());
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidUsage;
  // A program that promises the same bits, which FPDIST_EMULATED_PROMISE says, has to turn the switch's sums off.
  const char* const nvls = std::getenv("NCCL_NVLS_ENABLE");
  if (std::getenv("FPDIST_EMULATED_PROMISE") && (nvls == nullptr || std::string(nvls) != "0")) return ncclInvalidUsage;
  {
    const std::lock_guard lock(blocks_mutex);
    blocks_of[config->commName] = config->maxCTAs;
  }
  *comm = new ncclComm(id.internal, rank, ranks);
  std::thread([made = *comm] {
    try {
      made->wire.connect();
      made->hosts.connect();
      made->state = ncclSuccess;
    } catch (const std::exception& error) {
      made->fail(error.what());
    }
  }).detach();
  return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) { return *state = comm->state, ncclSuccess; }
ncclResult_t ncclCommRegister(const ncclComm_t comm, void* data, size_t, void** handle) {
  return *handle = data, ++comm->kept, ++registered, ncclSuccess;
}
ncclResult_t ncclCommDeregister(const ncclComm_t comm, void*) { return --comm->kept, ncclSuccess; }
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (comm->state != ncclSuccess || comm->kept != 0) return ncclInvalidUsage;
  comm->state = ncclInProgress;
  std::thread([comm] {
    while (comm->queued > 0) std::this_thread::sleep_for(kLate);
    ncclResult_t expected = ncclInProgress;
    comm->state.compare_exchange_strong(expected, ncclSuccess);
  }).detach();
  return ncclInProgress;
}
/// The memory stays: a thread may still look at it.
ncclResult_t ncclCommDestroy(ncclComm_t comm) { return comm->give_up(), wait_for_kernels(*comm); }
ncclResult_t ncclCommAbort(ncclComm_t comm) { return comm->give_up(), wait_for_kernels(*comm); }
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited or there was a network error" : "emulated NCCL: refused";
}
const char* ncclGetLastError(ncclComm_t comm) {
  if (comm == nullptr) return "";
  const std::lock_guard lock(comm->mutex);
  return comm->error.c_str();
}

ncclResult_t ncclGroupStart() { return ++group.depth, ncclSuccess; }
ncclResult_t ncclGroupEnd() { return end_group(); }
ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return queue(comm,
               {.kind = Kind::kMessage, .from = data, .count = count, .type = type, .peer = peer, .stream = stream});
}
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return queue(comm,
               {.kind = Kind::kMessage, .into = data, .count = count, .type = type, .peer = peer, .stream = stream});
}
ncclResult_t ncclAllReduce(const void* from, void* into, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return queue(comm, {Kind::kAllReduce, from, into, count, type, op, 0, stream});
}
ncclResult_t ncclAllGather(const void* from, void* into, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return queue(comm, {Kind::kAllGather, from, into, count, type, ncclSum, 0, stream});
}
ncclResult_t ncclReduceScatter(const void* from, void* into, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  return queue(comm, {Kind::kReduceScatter, from, into, count, type, op, 0, stream});
}
ncclResult_t ncclBroadcast(const void* from, void* into, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return queue(comm, {Kind::kBroadcast, from, into, count, type, ncclSum, root, stream});
}

}  // extern "C"
