#include "src/comm/device/device_choice.hpp"

#include <ATen/ops/full.h>

#include "fpdist/core/error.hpp"

namespace fpdist::comm {
namespace {

constexpr int kDriverTooOld = 35, kNoGpu = 100;  // cudaErrorInsufficientDriver, cudaErrorNoDevice

std::string version_text(int version) { return text(version / 1000, ".", version % 1000 / 10); }

std::string driver_text(const CudaProbe& probe) {
  return probe.driver_version == 0 ? std::string("knows no CUDA")
                                   : "knows CUDA up to " + version_text(probe.driver_version);
}

std::string why_not(const DeviceFacts& facts) {
  const CudaProbe& probe = facts.probe;
  if (!facts.driver_error.empty()) {
    return text("no NVIDIA driver (", facts.driver_error,
                "); install the driver, or start the container with access to the GPUs");
  }
  if (!facts.has_library) {
    return text("libfpdist_cuda.so is not built (", facts.library_error,
                "); build where a CUDA 13 toolkit and NCCL >= 2.28 are");
  }
  if (!facts.library_error.empty()) {
    return text(
        "libfpdist_cuda.so cannot be opened (", facts.library_error,
        "); run launch/setup.sh where the CUDA toolkit is, or install the wheels that torch names (nvidia-cublas, "
        "nvidia-cudnn-cu13, nvidia-nccl-cu13, nvidia-cusparselt-cu13, nvidia-nvshmem-cu13, nvidia-cufile, ...) "
        "beside it, or put the folders of their libraries on LD_LIBRARY_PATH");
  }
  if (!facts.is_same_build) {
    return text("libfpdist_cuda.so comes from another build (it has no ", kCudaEntry,
                "); build both libraries together");
  }
  if (probe.error == kDriverTooOld) {
    return text("the NVIDIA driver ", driver_text(probe), ", this build needs ", version_text(probe.runtime_version),
                "; update the driver");
  }
  if (probe.error == kNoGpu || (probe.error == 0 && probe.gpus == 0)) {
    return text("the NVIDIA driver sees no GPU; nvidia-smi -L shows what is there, CUDA_VISIBLE_DEVICES may hide it");
  }
  if (probe.error != 0) {
    return text("CUDA fails with error ", probe.error, " (", probe.error_text, "); nvidia-smi and dmesg may say why");
  }
  if (probe.gpus < facts.local_size && !facts.share_gpus) {
    return text(
        probe.gpus, probe.gpus == 1 ? " GPU" : " GPUs", " for ", facts.local_size,
        " ranks on this host; start as many ranks as there are GPUs (where the launcher shows each rank its own "
        "GPU alone, and in tests, set share_gpus)");
  }
  return "";
}

}  // namespace

ChosenDevice find_gpu(const DeviceFacts& facts) {
  ChosenDevice choice{.why_no_gpu = why_not(facts)};
  choice.is_gpu = choice.why_no_gpu.empty();
  if (choice.is_gpu) choice.gpu = facts.local_rank % facts.probe.gpus;
  return choice;
}

std::optional<ChosenDevice> choose_without_facts(const std::string& name) {
  check<ConfigError>(name == "cpu" || name == "cuda" || name == "auto", "device ", name,
                     ": no such device; cpu, cuda and auto are known");
  return name == "cpu" ? std::optional(ChosenDevice{}) : std::nullopt;
}

ChosenDevice choose_device(const std::string& name, const DeviceFacts& facts) {
  const ChosenDevice choice = find_gpu(facts);
  check<ConfigError>(choice.is_gpu || name != "cuda", "device cuda: ", choice.why_no_gpu,
                     "; device cpu runs without a GPU");
  return choice;
}

ChosenDevice choose_together(const ChosenDevice& own, Communicator& world) {
  at::Tensor all = at::full({1}, own.is_gpu ? 1 : 0, at::kLong);
  world.all_reduce(all, ReduceOp::kMin);
  if (!own.is_gpu || all.item<int64_t>() == 1) return own;
  return {.why_no_gpu = "another rank has no GPU; its host, or the launcher's options for it, differ from this one's"};
}

}  // namespace fpdist::comm
