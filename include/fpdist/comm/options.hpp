#pragma once
#include <span>
#include <string>

namespace fpdist {
struct Key;
}
namespace fpdist::comm {

struct DeviceOptions {
  /// How tensors on a GPU travel: nccl, or staged: copied to the host and sent as host tensors are (tests, machines
  /// whose GPUs NCCL cannot connect).
  std::string transport = "nccl";
  /// Most thread blocks that NCCL may hold in a kernel, and how many processors products leave to it. 0: 4 where a
  /// pipeline's rows travel, 8 for keys, 16 for ZeRO, elsewhere NCCL's own choice; products take the whole GPU.
  int nccl_max_ctas = 0;
  /// Lets ranks of a host outnumber the GPUs that they see: rank r takes GPU r modulo their number. For tests, and for
  /// launchers that show each rank its own GPU alone (CUDA_VISIBLE_DEVICES).
  bool share_gpus = false;
  /// Only kernels that give the same bits twice. Set by model.deterministic.
  bool deterministic = true;

  static std::span<const Key> keys();
};

}  // namespace fpdist::comm
