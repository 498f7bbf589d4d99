#include "fpdist/comm/options.hpp"

#include "src/core/key.hpp"

namespace fpdist::comm {

std::span<const Key> DeviceOptions::keys() {
  using Options = DeviceOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(transport, "how tensors on a GPU travel; staged: over the host",
                 Valid{.values = "nccl | staged", .check = check_one_of}),
      FPDIST_KEY(nccl_max_ctas, "most thread blocks of an NCCL kernel, left to it by products; 0: by axis",
                 kFromZero.saying("0 (by axis) or more")),
      FPDIST_KEY(share_gpus, "let ranks outnumber the GPUs that they see")};
  return kKeys;
}

}  // namespace fpdist::comm
