#pragma once
// comm, private: an axis whose ranks have all sent each other a first message when it is made. NCCL connects two ranks
// in their first call, where both hosts wait for each other: ranks that begin with sends to each other, as an exchange
// of keys may, would wait for ever.

#include <ATen/core/Tensor.h>

#include <memory>

#include "src/comm/forwarding_communicator.hpp"

namespace fpdist::comm {

class ConnectedAxis final : public ForwardingCommunicator {
 public:
  /// Collective over `axis`. `where`: of the tensors that will travel.
  ConnectedAxis(std::unique_ptr<Communicator> axis, at::Device where);
  Traffic traffic() const override;

 private:
  Traffic before_;  ///< what connecting took
};

}  // namespace fpdist::comm
