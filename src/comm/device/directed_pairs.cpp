#include "src/comm/device/directed_pairs.hpp"

#include <ATen/ops/zeros.h>

#include <utility>

#include "src/comm/work.hpp"

namespace fpdist::comm {

namespace {

void connect(Communicator& pair, bool sends, at::Device where) {
  at::Tensor hello = at::zeros({1}, at::TensorOptions(at::kByte).device(where));
  pair.group_begin();
  if (sends)
    pair.send(hello, 1);
  else
    pair.receive(hello, 0);
  pair.group_end();
}

}  // namespace

DirectedPairs::DirectedPairs(std::unique_ptr<Communicator> axis, int direction, at::Device where)
    : ForwardingCommunicator(std::move(axis)), direction_(direction) {
  const int ranks = size();
  // A pair bears its sender's number. Neighbouring pairs share a rank, so a split makes every other one; in a ring of
  // an odd number the last has a split to itself.
  const auto round_of = [&](int pair) { return ranks % 2 == 1 && pair == ranks - 1 ? 2 : pair % 2; };
  for (int round = 0; round < (ranks % 2 == 1 ? 3 : 2); ++round) {
    const bool sends = round_of(rank()) == round, receives = round_of(from_peer()) == round;
    const int color = sends ? rank() : receives ? from_peer() : ranks + rank();
    auto pair = inner().split(inner().axis(), color, sends ? 0 : 1);
    if (sends || receives) connect(*pair, sends, where);
    if (sends)
      to_ = std::move(pair);
    else if (receives)
      from_ = std::move(pair);
  }
  before_ = sum_of_parts();
}

void DirectedPairs::group_begin() {
  for (Communicator* part : all()) part->group_begin();
}

void DirectedPairs::send(const at::Tensor& tensor, int peer) {
  peer == to_peer() ? to_->send(tensor, 1) : inner().send(tensor, peer);
}

void DirectedPairs::receive(at::Tensor& tensor, int peer) {
  peer == from_peer() ? from_->receive(tensor, 0) : inner().receive(tensor, peer);
}

std::unique_ptr<Work> DirectedPairs::group_start() {
  std::vector<std::unique_ptr<Work>> works;
  for (Communicator* part : all()) works.push_back(part->group_start());
  return std::make_unique<AllWork>(std::move(works));
}

Traffic DirectedPairs::sum_of_parts() const {
  Traffic sum;
  for (const Communicator* part : all()) {
    const Traffic own = part->traffic();
    sum.bytes += own.bytes, sum.messages += own.messages;
  }
  return sum;
}

Traffic DirectedPairs::traffic() const {
  const Traffic now = sum_of_parts();
  return {.bytes = now.bytes - before_.bytes, .messages = now.messages - before_.messages};
}

}  // namespace fpdist::comm
