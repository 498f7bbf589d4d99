#pragma once
// comm, private: which device a rank takes. What was found goes in, the decision comes out; open_device looks and acts.

#include <optional>
#include <string>

#include "fpdist/comm/communicator.hpp"
#include "src/comm/cuda_library.hpp"

namespace fpdist::comm {

/// What stands between this process and a GPU; later members are empty where an earlier one stopped the search.
struct DeviceFacts {
  int local_rank = 0, local_size = 1;
  bool share_gpus = false;
  std::string driver_error{};   ///< why libcuda.so.1 cannot be opened; empty: it can
  std::string library_error{};  ///< why libfpdist_cuda.so cannot be opened; empty: it can
  bool has_library = true;      ///< whether there is such a file beside libfpdist.so
  bool is_same_build = true;    ///< whether it has this build's entry
  CudaProbe probe{};
};

struct ChosenDevice {
  bool is_gpu = false;
  int gpu = 0;               ///< index of the rank's GPU
  std::string why_no_gpu{};  ///< what is missing, and the cure
};

/// Whether the rank can have a GPU, and which.
ChosenDevice find_gpu(const DeviceFacts& facts);

/// Opens libfpdist_cuda.so beside libfpdist.so and asks what CUDA says; null, and in `facts` why, where it cannot.
const CudaLibrary* open_cuda_library(DeviceFacts& facts);

/// The choice that `name` (cpu, cuda or auto) leaves without facts: cpu, or nothing where facts are needed. Throws
/// ConfigError for another name.
std::optional<ChosenDevice> choose_without_facts(const std::string& name);
/// The choice with facts; throws ConfigError when `name` is cuda and there is none.
ChosenDevice choose_device(const std::string& name, const DeviceFacts& facts);

/// The choice with auto: all ranks have GPUs or none has; a rank that could have one gives it up where another cannot.
/// Collective.
ChosenDevice choose_together(const ChosenDevice& own, Communicator& world);

}  // namespace fpdist::comm
