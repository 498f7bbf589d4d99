#pragma once
// comm, private: what every communicator asks of its callers, in one wording.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "src/comm/journal.hpp"

namespace fpdist::comm {

/// Start of each rank's slice, and the end of the last.
std::vector<int64_t> offsets_of(std::span<const int64_t> counts);

/// Whom `rank` sends to and receives from in step 1, 2, ... of an exchange of everyone with everyone (step 0: itself).
/// Rank r starts with r + 1, so that no receiver is everyone's first.
struct Partners {
  int to, from;
};
inline Partners partners(int rank, int step, int size) { return {(rank + step) % size, (rank - step + size) % size}; }

/// Throws ShapeError unless `tensor` is contiguous and of a dtype that ranks exchange.
void check_tensor(const Here& here, const at::Tensor& tensor, const char* what);
/// Throws ShapeError unless check_tensor lets `tensor` pass and it is on the CPU.
void check_host_tensor(const Here& here, const at::Tensor& tensor, const char* what);
/// Throws ShapeError unless the counts are one per rank, none negative, and add up to the tensor's elements.
void check_counts(const Here& here, std::span<const int64_t> counts, int size, const at::Tensor& whole,
                  const char* what);
void check_gather(const Here& here, const at::Tensor& mine, const at::Tensor& out, std::span<const int64_t> counts,
                  int size);
void check_scatter(const Here& here, const at::Tensor& in, const at::Tensor& mine, std::span<const int64_t> counts,
                   int size);
void check_exchange(const Here& here, const at::Tensor& in, std::span<const int64_t> in_counts, const at::Tensor& out,
                    std::span<const int64_t> out_counts, int size);
void check_root(const Here& here, int root, int size);

struct GroupMessage {
  at::Tensor tensor;
  int peer = 0;
};

/// The messages of a group, as they were handed in.
struct GroupMessages {
  std::vector<GroupMessage> sends, receives;
};

/// Collects a group between group_begin and group_end. A call that it refuses gives the group up.
class GroupBuilder {
 public:
  using TensorCheck = std::function<void(const Here&, const at::Tensor&, const char*)>;
  bool is_open() const { return is_open_; }
  void begin(const Here& here);
  void send(const Here& here, const at::Tensor& tensor, int peer, int size, const TensorCheck& check_one);
  void receive(const Here& here, const at::Tensor& tensor, int peer, int size, const TensorCheck& check_one);
  /// Ends the group. A message to oneself has both its ends in it, of one length.
  GroupMessages take(const Here& here);

 private:
  void add(const Here& here, std::vector<GroupMessage>& side, const GroupMessage& message, int size, const char* what,
           const TensorCheck& check_one);
  GroupMessages messages_;
  bool is_open_ = false;
};

/// Starts the messages as a group of `communicator`.
std::unique_ptr<Work> start_group(Communicator& communicator, const GroupMessages& messages);

}  // namespace fpdist::comm
