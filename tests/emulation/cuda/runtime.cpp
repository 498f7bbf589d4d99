// The CUDA runtime's calls that torch and fpdist make, on host memory; launches are kernels.cpp's.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tests/emulation/cuda/contexts.hpp"
#include "tests/emulation/cuda/device.hpp"
#include "tests/emulation/cuda/memory.hpp"
#include "tests/emulation/cuda/streams.hpp"
#include "tests/emulation/cuda/tensor_maps.hpp"

namespace fpdist::emulated {
namespace {

constexpr int kMultiprocessors = 16;
constexpr std::chrono::microseconds kLate(200);  // who does not wait for a copy is to see it
thread_local cudaError_t last_error = cudaSuccess;
thread_local int current = 0;
std::atomic<uint64_t> contexts = 0;

void use_context() { contexts |= uint64_t{1} << current; }

cudaError_t answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

int64_t setting(const char* name, int64_t fallback) {
  const char* set = std::getenv(name);
  return set ? std::atoll(set) : fallback;
}
int device_count() {
  static const auto count = static_cast<int>(setting("FPDIST_EMULATED_GPUS", 1));
  return count;
}
size_t capacity() {
  static const auto bytes = static_cast<size_t>(setting("FPDIST_EMULATED_GPU_MIB", 4096)) << 20;
  return bytes;
}

/// Device and pinned memory; reads of what was never written give NaN.
class Memory {
 public:
  static Memory& get() {
    static auto* const memory = new Memory;
    return *memory;
  }
  void* allocate(size_t bytes, cudaMemoryType type) {
    const std::lock_guard lock(mutex_);
    if (type == cudaMemoryTypeDevice && used_ + bytes > capacity()) return nullptr;
    const size_t rounded = (std::max<size_t>(bytes, 1) + 511) / 512 * 512;
    void* const address = std::aligned_alloc(512, rounded);
    if (address == nullptr) return nullptr;
    std::memset(address, 0xff, rounded);
    block_[static_cast<char*>(address)] = {rounded, bytes, type, current};
    if (type == cudaMemoryTypeDevice) used_ += rounded;
    return address;
  }
  bool release(void* address) {
    const std::lock_guard lock(mutex_);
    const auto found = block_.find(static_cast<char*>(address));
    if (found == block_.end()) return false;
    if (found->second.type == cudaMemoryTypeDevice) used_ -= found->second.bytes;
    block_.erase(found);
    std::free(address);
    return true;
  }
  struct Block {
    size_t bytes = 0, asked = 0;
    cudaMemoryType type = cudaMemoryTypeUnregistered;
    int device = 0;
  };
  Block block_of(const void* address) {
    const std::lock_guard lock(mutex_);
    auto after = block_.upper_bound(static_cast<const char*>(address));
    if (after == block_.begin()) return {};
    --after;
    return static_cast<const char*>(address) < after->first + after->second.bytes ? after->second : Block{};
  }
  std::pair<uint64_t, uint64_t> allocation_before(uint64_t address) {
    const std::lock_guard lock(mutex_);
    const auto after = block_.upper_bound(reinterpret_cast<const char*>(address));
    if (after == block_.begin()) return {1, 0};
    const auto& [begin, block] = *std::prev(after);
    return {reinterpret_cast<uint64_t>(begin), reinterpret_cast<uint64_t>(begin) + block.asked};
  }
  size_t used() {
    const std::lock_guard lock(mutex_);
    return used_;
  }

 private:
  std::mutex mutex_;
  std::map<const char*, Block> block_;
  size_t used_ = 0;
};

cudaError_t allocate(void** address, size_t bytes, cudaMemoryType type) {
  *address = Memory::get().allocate(bytes, type);
  return answer(*address ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t release(void* address) {
  if (address == nullptr) return cudaSuccess;
  count_wait();  // the real one waits too
  drain_all();
  return answer(Memory::get().release(address) ? cudaSuccess : cudaErrorInvalidValue);
}

using EventHandle = std::shared_ptr<Event>;
EventHandle& event_of(cudaEvent_t handle) { return *reinterpret_cast<EventHandle*>(handle); }

}  // namespace

std::pair<uint64_t, uint64_t> allocation_before(uint64_t address) { return Memory::get().allocation_before(address); }

int compute_capability() {
  static const auto capability = static_cast<int>(setting("FPDIST_EMULATED_SM", 90));
  return capability;
}

}  // namespace fpdist::emulated

using namespace fpdist::emulated;

uint64_t fpdist_emulated_contexts() { return contexts; }

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) { return *count = device_count(), cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = current, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) return answer(cudaErrorInvalidDevice);
  if (std::getenv("FPDIST_EMULATED_PROMISE") && !std::getenv("CUDA_DEVICE_MAX_CONNECTIONS"))
    return answer(cudaErrorInvalidConfiguration);
  current = device;
  return use_context(), cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "an error of the emulated GPU";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess                 ? "no error"
         : error == cudaErrorMemoryAllocation ? "out of memory"
                                              : "emulated GPU: error";
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return *least = 0, *greatest = -5, cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** address, unsigned int, unsigned long long,
                                             cudaDriverEntryPointQueryResult* status) {
  *address = driver_function(name);
  if (status) *status = *address ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return *address ? cudaSuccess : answer(cudaErrorSymbolNotFound);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated on the CPU");
  properties->totalGlobalMem = capacity();
  properties->major = compute_capability() / 10, properties->minor = compute_capability() % 10;
  properties->multiProcessorCount = kMultiprocessors, properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024, properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerBlock = 48 << 10, properties->sharedMemPerBlockOptin = 227 << 10;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? kMultiprocessors : 0;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  use_context();
  return *total = capacity(), *free_bytes = capacity() - Memory::get().used(), cudaSuccess;
}

cudaError_t cudaMalloc(void** address, size_t bytes) {
  use_context();
  return allocate(address, bytes, cudaMemoryTypeDevice);
}
cudaError_t cudaFree(void* address) {
  use_context();
  return release(address);
}
cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned int) {
  use_context();
  return allocate(address, bytes, cudaMemoryTypeHost);
}
cudaError_t cudaFreeHost(void* address) {
  use_context();
  return release(address);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  *attributes = {};
  const auto block = Memory::get().block_of(address);
  attributes->type = block.type, attributes->device = block.device;
  const bool is_known = attributes->type != cudaMemoryTypeUnregistered;
  attributes->devicePointer = is_known ? const_cast<void*>(address) : nullptr;
  attributes->hostPointer = attributes->type == cudaMemoryTypeHost ? const_cast<void*>(address) : nullptr;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  use_context();
  if (Memory::get().block_of(from).type ==
      cudaMemoryTypeUnregistered) {  // pageable: it is staged before the call returns
    const auto* const begin = static_cast<const char*>(from);
    stream_of(stream).push([to, held = std::vector<char>(begin, begin + bytes)] {
      if (!held.empty()) std::memcpy(to, held.data(), held.size());
    });
  } else {
    stream_of(stream).push([=] {
      std::this_thread::sleep_for(kLate);
      std::memcpy(to, from, bytes);
    });
  }
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  count_wait();
  stream_of(nullptr).drain();
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  use_context();
  stream_of(stream).push([=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int, int) {
  use_context();
  return *stream = reinterpret_cast<cudaStream_t>(new Stream), cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  use_context();
  return count_wait(), stream_of(stream).drain(), cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  use_context();
  return stream_of(stream).idle() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize() {
  use_context();
  return count_wait(), drain_all(), cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long*, cudaGraph_t*,
                                     const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t handle, unsigned int) {
  use_context();
  const EventHandle event = event_of(handle);
  stream_of(stream).push([event, generation = event->recorded()] { event->wait(generation); });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  use_context();
  return *event = reinterpret_cast<cudaEvent_t>(new EventHandle(std::make_shared<Event>())), cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  use_context();
  return delete &event_of(event), cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t stream, unsigned int) {
  use_context();
  const EventHandle event = event_of(handle);
  stream_of(stream).push([event, generation = event->record()] { event->happen(generation); });
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, 0);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  use_context();
  return event_of(event)->query() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  use_context();
  return count_wait(), event_of(event)->wait(), cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  use_context();
  *milliseconds = std::chrono::duration<float, std::milli>(event_of(end)->when() - event_of(begin)->when()).count();
  return cudaSuccess;
}

}  // extern "C"
