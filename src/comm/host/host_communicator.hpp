#pragma once
// comm, private: every collective over a Transport, for tensors in host memory.

#include <memory>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "src/comm/arguments.hpp"
#include "src/comm/host/transport.hpp"
#include "src/comm/journal.hpp"

namespace fpdist::comm {

class HostCommunicator final : public Communicator {
 public:
  /// The communicator of all ranks of the job.
  HostCommunicator(std::shared_ptr<Transport> transport, std::string axis);
  /// The communicator of some. `members`: job ranks, own one included, in rank order; `tag` is no other communicator's
  /// between any two of them.
  HostCommunicator(std::shared_ptr<Transport> transport, std::string axis, std::vector<int> members, int tag);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  const std::string& axis() const override { return *axis_; }
  void group_begin() override;
  void send(const at::Tensor& tensor, int peer) override;
  void receive(at::Tensor& tensor, int peer) override;
  void group_end() override;
  std::unique_ptr<Work> group_start() override;
  void all_reduce(at::Tensor& tensor, ReduceOp op) override;
  void all_gather_v(const at::Tensor& mine, at::Tensor& out, std::span<const int64_t> counts) override;
  void reduce_scatter_v(const at::Tensor& in, at::Tensor& mine, std::span<const int64_t> counts) override;
  void all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                    std::span<const int64_t> out_counts) override;
  void broadcast(at::Tensor& tensor, int root) override;
  void barrier() override;
  Traffic traffic() const override { return traffic_; }
  std::unique_ptr<Communicator> split(const std::string& axis, int color, int key) override;
  void abort(const std::string& reason) noexcept override;
  const CommOptions& options() const override { return transport_->options(); }
  const std::shared_ptr<Journal>& journal() const override { return transport_->journal(); }
  const std::vector<int>& members() const override { return members_; }

 private:
  struct Call;  ///< one collective under way
  Call begin(Collective collective, const at::Tensor& tensor, int64_t detail);
  Call begin_group(const std::vector<GroupMessage>& sends, const std::vector<GroupMessage>& receives);
  Call open(CallRecord record, MessageHeader header);
  void gather_slots(Call& call, const char* mine, const at::Tensor& out, std::span<const int64_t> counts);
  void reduce_slots(Call& call, const at::Tensor& in, const at::Tensor& mine, std::span<const int64_t> counts,
                    ReduceOp op);
  /// mine <- the elements from `begin` on of the sum of everyone's `in`, which all have in full.
  void reduce_whole(Call& call, const at::Tensor& in, const at::Tensor& mine, int64_t begin, ReduceOp op);
  Here here() const { return {*axis_, rank_, *transport_->journal()}; }
  Place place(Collective collective, int64_t sequence) const;
  bool is_checked(int64_t sequence) const;

  std::shared_ptr<Transport> transport_;
  SharedText axis_;
  std::vector<int> members_;
  int rank_ = 0, tag_ = 0;
  int64_t sequence_ = 0, groups_ = 0;
  GroupBuilder builder_;
  Traffic traffic_;
  std::vector<int64_t> sent_, received_;  ///< [size] messages of groups so far
};

}  // namespace fpdist::comm
