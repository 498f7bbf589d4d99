#pragma once
// Tests: the way that tensors travel, chosen by FPDIST_TEST_TRANSPORT for a whole run of a test program:
//   plain   (default) as the World's communicator sends them;
//   staged  through copies, as device tensors go through the host;
//   stream  planned as for NCCL, over host messages;
//   nccl    CUDA tensors through NCCL.

#include <ATen/core/Tensor.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/log.hpp"
#include "src/comm/device/routed_communicator.hpp"
#include "src/comm/device/stream_side.hpp"
#include "tests/support/ranks/host_link.hpp"

namespace fpdist::test {

enum class Transport { kPlain, kStaged, kStream, kNccl };

inline Transport transport() {
  const char* set = std::getenv("FPDIST_TEST_TRANSPORT");
  const std::string name = set ? set : "plain";
  if (name == "plain") return Transport::kPlain;
  if (name == "staged") return Transport::kStaged;
  if (name == "stream") return Transport::kStream;
  check<ConfigError>(name == "nccl", "FPDIST_TEST_TRANSPORT is ", name, "; plain, staged, stream and nccl are known");
  return Transport::kNccl;
}

/// Where the tests' tensors are.
inline at::Device where() { return transport() == Transport::kNccl ? at::Device(at::kCUDA) : at::Device(at::kCPU); }

/// This process's GPU.
inline comm::Device& gpu(const comm::World& world) {
  static NullLog log;
  static const std::unique_ptr<comm::Device> device = comm::open_device("cuda", world, {.share_gpus = true}, log);
  return *device;
}

/// A communicator over the World's whose tensors travel the chosen way.
inline std::unique_ptr<comm::Communicator> travelling(comm::World& world) {
  comm::Communicator& plain = world.communicator();
  if (transport() == Transport::kNccl) return gpu(world).extend(plain.split(plain.axis(), 0, plain.rank()));
  const auto stream_side = [](comm::Communicator& ranks) -> std::unique_ptr<comm::DeviceSide> {
    return std::make_unique<comm::StreamSide>(ranks, ranks.size() > 1 ? std::make_unique<HostLink>(ranks) : nullptr);
  };
  const std::shared_ptr<comm::Communicator> host(&plain, [](comm::Communicator*) {});  // the World's
  comm::DeviceSideFactory side = comm::make_staged_side;
  if (transport() == Transport::kStream) side = stream_side;
  return std::make_unique<comm::RoutedCommunicator>(host, side, at::kCPU);
}

/// body on a World whose tensors travel the chosen way.
inline void travel(comm::World& world, const std::function<void(comm::World&)>& body) {
  if (transport() == Transport::kPlain) return body(world);
  comm::World changed(travelling(world), world.local_size(), world.communicator().journal());
  body(changed);
}

}  // namespace fpdist::test
