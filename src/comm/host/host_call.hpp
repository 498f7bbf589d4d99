#pragma once
// comm, private: one collective of a HostCommunicator under way.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "src/comm/host/host_communicator.hpp"
#include "src/comm/host/transport.hpp"
#include "src/comm/journal.hpp"

namespace fpdist::comm {

inline char* data_of(const at::Tensor& tensor) { return static_cast<char*>(tensor.data_ptr()); }

/// A number that tells lists of values apart (FNV-1a).
inline int64_t signature(std::span<const int64_t> values) {
  uint64_t hash = 1469598103934665603u;
  for (const int64_t value : values) hash = (hash ^ static_cast<uint64_t>(value)) * 1099511628211u;
  return static_cast<int64_t>(hash >> 1);
}

struct HostCommunicator::Call {
  Transport& transport;
  const std::vector<int>& members;
  MessageHeader header;
  bool checked;
  Traffic& traffic;
  Exchange exchange;
  OpenCall record;

  Message message(int rank, char* data, int64_t bytes, const at::Tensor& owner) const {
    Message message{.peer = members[rank], .data = data, .header = header, .checked = checked, .owner = owner};
    message.header.bytes = bytes;
    return message;
  }
  void send(int rank, const char* data, int64_t bytes, const at::Tensor& owner) {
    exchange.sends.push_back(message(rank, const_cast<char*>(data), bytes, owner));
    traffic.bytes += bytes, traffic.messages += bytes > 0;
  }
  void receive(int rank, char* data, int64_t bytes, const at::Tensor& owner) {
    exchange.receives.push_back(message(rank, data, bytes, owner));
  }
  /// Moves what was added and waits; the first round of a call carries the headers.
  void run() {
    Exchange next{.tag = exchange.tag, .sends = {}, .receives = {}, .place = exchange.place, .round = 0};
    std::swap(next, exchange);
    transport.start(std::move(next))->wait();
    checked = false;
  }
};

}  // namespace fpdist::comm
