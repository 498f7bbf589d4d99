#include "src/comm/cuda/cuda_device.hpp"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/comm/cuda/nccl_context.hpp"
#include "src/comm/cuda/nccl_link.hpp"
#include "src/comm/device/hosts_of_ranks.hpp"
#include "src/comm/device/routed_communicator.hpp"
#include "src/comm/device/stream_side.hpp"
#include "src/core/index.hpp"
#include "src/core/words.hpp"

namespace fpdist::comm {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;
using c10::CachingAllocator::StatType;

/// What was made on the copy stream. torch's allocator keeps a pool of blocks a stream and hands a block that was freed
/// out again to the same stream at once: right for that stream's own order. Here another stream has read it, so the
/// copy stream first waits until that one has come to where the tensors were let go. By then that is the past, and
/// costs nothing. This covers all memory that was made, also what did not go through upload(), which no record_stream
/// of a list of tensors would.
class CopiedAhead final : public Ahead {
 public:
  explicit CopiedAhead(c10::cuda::CUDAStream copies) : copies_(copies) { made_.record(copies_); }
  CopiedAhead(const CopiedAhead&) = delete;
  CopiedAhead& operator=(const CopiedAhead&) = delete;
  ~CopiedAhead() override {
    if (!user_) return;
    try {
      at::cuda::CUDAEvent used;
      used.record(*user_);
      used.block(copies_);
    } catch (const std::exception&) {  // CUDA itself has failed: the next call says so
    }
  }
  void wait() override {
    user_ = c10::cuda::getCurrentCUDAStream(copies_.device_index());
    made_.block(*user_);
  }

 private:
  c10::cuda::CUDAStream copies_;
  std::optional<c10::cuda::CUDAStream> user_;
  at::cuda::CUDAEvent made_;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(int index, const DeviceOptions& options)
      : index_(static_cast<c10::DeviceIndex>(index)), options_(options) {
    at::globalContext().lazyInitDevice(at::kCUDA);
    c10::cuda::set_device(index_);
    copies_ = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, index_);
    size_t free = 0, total = 0;
    C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    capacity_ = static_cast<int64_t>(total);
  }

  bool deterministic() const override { return options_.deterministic; }
  at::Device where() const override { return {at::kCUDA, index_}; }

  std::string description() const override {
    cudaDeviceProp properties{};
    int driver = 0;
    C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, index_));
    C10_CUDA_CHECK(cudaDriverGetVersion(&driver));
    return text("GPU ", static_cast<int>(index_), ": ", properties.name, ", ",
                number("%.1f", in_gib(static_cast<int64_t>(properties.totalGlobalMem))), " GiB, compute capability ",
                properties.major, ".", properties.minor, ", driver for CUDA ", driver / 1000, ".", driver % 1000 / 10);
  }

  std::unique_ptr<Communicator> extend(std::unique_ptr<Communicator> host) override {
    if (options_.transport == "staged") {
      return std::make_unique<RoutedCommunicator>(std::move(host), make_staged_side, at::kCUDA);
    }
    if (!nccl_) nccl_ = std::make_shared<NcclContext>(index_, options_.nccl_max_ctas);
    if (options_.nccl_max_ctas > 0) leave_room_for_nccl();
    const auto hosts = std::make_shared<const HostsOfRanks>(*host);
    const auto make_side = [context = nccl_, hosts](Communicator& ranks) -> std::unique_ptr<DeviceSide> {
      auto link =
          ranks.size() > 1 ? std::make_unique<NcclLink>(context, ranks, hosts->are_several(ranks.members())) : nullptr;
      return std::make_unique<StreamSide>(ranks, std::move(link));
    };
    return std::make_unique<RoutedCommunicator>(std::move(host), make_side, at::kCUDA);
  }

  /// torch's copy remembers the pinned block with the stream, so that it is not handed out again before the copy ends.
  at::Tensor upload(const at::Tensor& host) override {
    if (!host.device().is_cpu()) return host;
    if (host.is_pinned()) return host.to(where(), /*non_blocking=*/true);
    at::Tensor pinned = at::empty(host.sizes(), host.options().pinned_memory(true));
    pinned.copy_(host);
    return pinned.to(where(), /*non_blocking=*/true);
  }

  /// The guard also makes index_ the thread's device: a new thread's is 0.
  std::unique_ptr<Ahead> run_ahead(const std::function<void()>& make) override {
    const c10::cuda::CUDAStreamGuard guard(*copies_);
    make();
    return std::make_unique<CopiedAhead>(*copies_);
  }

  /// An aborted transport lets go of what waits for its peers; the results are worth nothing then.
  void synchronize() override {
    c10::cuda::device_synchronize();
    if (nccl_) nccl_->check_health("synchronize");
  }

  at::Tensor download(const at::Tensor& tensor) override {
    at::Tensor host = tensor.cpu();
    if (nccl_) nccl_->check_health("download");
    return host;
  }
  MemoryUse memory() const override {
    const auto stats = allocator::getDeviceStats(index_);
    const auto& all = stats.allocated_bytes[static_cast<size_t>(StatType::AGGREGATE)];
    return {.bytes = all.current, .peak = all.peak, .capacity = capacity_};
  }

  void reset_peak_memory() override { allocator::resetPeakStats(index_); }

  size_t mark() override {
    marks_.emplace_back(static_cast<unsigned int>(cudaEventDefault));  // with timing
    marks_.back().record(c10::cuda::getCurrentCUDAStream(index_));
    return marks_.size() - 1;
  }

  std::vector<double> seconds() override {
    std::vector<double> all;
    for (at::cuda::CUDAEvent& mark : marks_) {
      if (!mark.query()) mark.synchronize();  // marks of several streams need not end in order
      all.push_back(marks_.front().elapsed_time(mark) / 1000.0);
    }
    marks_.clear();
    return all;
  }

  void begin_range(const std::string& name) override { nvtxRangePushA(name.c_str()); }
  void end_range() override { nvtxRangePop(); }

 protected:
  at::Tensor staging(int64_t bytes) override {
    return at::empty({bytes}, at::TensorOptions(at::kByte).pinned_memory(true));
  }

 private:
  /// cuBLASLt's kernels take one block a multiprocessor: with those that NCCL holds they would go twice.
  void leave_room_for_nccl() const {
    int multiprocessors = 0;
    C10_CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, index_));
    c10::Dispatcher::singleton()
        .findSchemaOrThrow("fpdist::set_sm_target", "")
        .typed<void(int64_t, int64_t)>()
        .call(index_, std::max(1, multiprocessors - options_.nccl_max_ctas));
  }

  c10::DeviceIndex index_;
  DeviceOptions options_;
  int64_t capacity_ = 0;
  std::shared_ptr<NcclContext> nccl_;
  std::vector<at::cuda::CUDAEvent> marks_;
  std::optional<c10::cuda::CUDAStream> copies_;  ///< what run_ahead queues; always there
};

}  // namespace

std::unique_ptr<Device> open_cuda_device(int index, const DeviceOptions& options) {
  return std::make_unique<CudaDevice>(index, options);
}

}  // namespace fpdist::comm
