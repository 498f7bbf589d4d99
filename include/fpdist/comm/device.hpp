#pragma once
// comm: Device, what a rank computes on: the CPU, or a GPU that libfpdist_cuda.so brings. libfpdist never links CUDA or
// NCCL; the library is opened when a GPU is asked for. One process drives one GPU, chosen by its rank on the host.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/comm/options.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/log.hpp"

namespace fpdist::comm {

struct MemoryUse {
  int64_t bytes = 0, peak = 0;  ///< allocated now, and the most since reset_peak_memory
  int64_t capacity = 0;         ///< of the whole device
};

/// What Device::run_ahead made. Its memory is reused behind what the user's stream holds when the Ahead is destroyed,
/// so it is destroyed before the tensors are (declare it behind them) and after their last use is queued, never sooner.
class Ahead {
 public:
  virtual ~Ahead() = default;
  /// The current stream of this thread, the one that will use what was made, waits until it is there; the host goes on.
  /// Once, ahead of the first use. What is dropped unused needs no wait.
  virtual void wait() = 0;
};

/// Views that upload_all makes begin at a multiple of so many bytes: what the widest loads of kernels ask for.
inline constexpr int64_t kUploadAlignment = 16;

/// What a rank computes on. All calls are the rank's own (none is collective) unless said otherwise.
class Device {
 public:
  virtual ~Device() = default;
  virtual at::Device where() const = 0;
  /// Whether only kernels that give the same bits twice may be used.
  virtual bool deterministic() const { return true; }
  /// "cpu" or the GPU's name, memory and driver, for logs.
  virtual std::string description() const = 0;

  /// `host` grown to carry this device's tensors too: CPU tensors go the host's way, device tensors in stream order (a
  /// call returns when the work is queued, but the first between two ranks (a mesh's pp and cp have it behind them) and
  /// the first collective when the other hosts have made it too). Communicators split from it carry both as well.
  /// Collective over `host`.
  /// Sums of device tensors: reduce_scatter_v with unequal counts adds in ascending rank order, bfloat16 in float32,
  /// with the host's bits; the other sums are NCCL's own, in an order that ranks, topology, size and dtype fix, so that
  /// the same run on the same machines gives the same bits (NCCL_ALGO and NCCL_PROTO pin it across topologies and
  /// versions). Several groups and collectives of one communicator run one after the other, as they were begun: a rank
  /// that begins A then B while its peers wait for B first hangs, unlike on the host.
  virtual std::unique_ptr<Communicator> extend(std::unique_ptr<Communicator> host) = 0;

  /// `host` on this device, without waiting: through pinned memory that is kept until the copy is done. The copy is
  /// queued on the current stream of the calling thread, behind what it holds (each thread has a current stream of its
  /// own; unless it is inside run_ahead, that is the device's default stream, which all threads share with the step).
  virtual at::Tensor upload(const at::Tensor& host) = 0;
  /// Each of these host tensors becomes its copy on this device: one pinned block and one copy for all, of which they
  /// are views (contiguous, kUploadAlignment). On the CPU they stay as they are. Throws ShapeError for a tensor that is
  /// not the host's.
  virtual void upload_all(std::span<at::Tensor* const> tensors);
  /// Runs `make` on this thread, with a stream of its own as the thread's current one: what it uploads travels while
  /// the streams of other threads, the running step's, go on, and is theirs after wait(). `make` uses no device tensor
  /// but its own, and such as are done (synchronize()) and stay. Any thread, several at a time. Throws what it throws.
  virtual std::unique_ptr<Ahead> run_ahead(const std::function<void()>& make);
  /// A device tensor on the host. Waits until it is there: the one way in which a step's numbers come back.
  virtual at::Tensor download(const at::Tensor& tensor) = 0;
  /// Waits until everything queued is done.
  virtual void synchronize() = 0;
  /// Memory of torch's allocator on this device; 0 on the CPU.
  virtual MemoryUse memory() const = 0;
  virtual void reset_peak_memory() = 0;

  /// A point in the device's work, as it is queued now; returns its number. seconds() of all points since the last
  /// call, by number, counted from the first; waits for the last. What a step costs is measured with these, never with
  /// the host's clock.
  virtual size_t mark() = 0;
  virtual std::vector<double> seconds() = 0;
  /// Names what is queued in between, for a profiler (NVTX); nothing on the CPU.
  virtual void begin_range(const std::string& name) = 0;
  virtual void end_range() = 0;

 protected:
  /// A host buffer [bytes] uint8 that upload() sends as it is: pinned where that matters.
  virtual at::Tensor staging(int64_t bytes);
};

/// The CPU as a device.
std::unique_ptr<Device> make_cpu_device();

/// `name`: cpu, cuda or auto (a GPU where there is a driver, else the CPU with one line in `log` that says why). Throws
/// ConfigError for an unknown name or transport, and, before anything is allocated, for cuda without library, driver or
/// GPU, with a driver too old, or with fewer GPUs than ranks on this host: what is missing and what to do. Collective
/// over `world` for auto: one rank without a GPU, and all take the CPU.
std::unique_ptr<Device> open_device(const std::string& name, const World& world, const DeviceOptions& options,
                                    LogSink& log);

}  // namespace fpdist::comm
