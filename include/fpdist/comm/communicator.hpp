#pragma once
// comm: the one interface through which ranks talk. An axis of the mesh is a Communicator. Every call below is
// collective over the communicator unless it says otherwise: all its ranks must call it, in the same order, with
// matching counts. Tensors are contiguous, of dtype float32, float64, bfloat16, int32, int64 or uint8, on the CPU or,
// on a communicator that a Device has extended, on that device (all tensors of one collective alike). A call with
// device tensors returns when its work is queued behind what the current stream holds, and what is queued on that
// stream afterwards sees the result. Sums of CPU tensors run in ascending rank order; sums of device tensors in an
// order that the ranks, the counts and the dtype fix (device.hpp): the same inputs on the same ranks give the same
// bits. Every blocking wait has a deadline, which begins anew with each sign of life of a rank that is in slow work of
// its own (slow_work.hpp); when it passes, or a peer is lost, CommError names collective, axis and rank.

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace fpdist::comm {

class Journal;  // private
struct CommOptions;

enum class ReduceOp { kSum, kMin, kMax };

/// Messages under way. The tensors of a group belong to it until wait() has returned; several groups may be under way
/// on one communicator, and they are matched with the peers' groups in the order in which they were started. They may
/// be waited for in any order: while a rank is in any wait or collective of its World, all its groups move on. One that
/// is destroyed unwaited (an error unwinds) keeps its tensors' memory; the job fails by its name if it is never done.
class Work {
 public:
  virtual ~Work() = default;
  /// Returns when all of the group's messages are done; throws CommError as every blocking wait does, its deadline
  /// counted from this call. For device tensors it makes the current stream wait instead, not the host. Once.
  virtual void wait() = 0;
  /// Whether all messages are done, without waiting: wait() is then a formality.
  virtual bool done() = 0;
};

/// What a rank has handed to the network on one communicator: payload only, neither headers nor a rank's messages to
/// itself.
struct Traffic {
  int64_t bytes = 0, messages = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const std::string& axis() const = 0;  ///< "world", "dp", ... for messages

  /// A group of messages from point to point. Between group_begin and group_end, at most one send and one receive per
  /// peer; nothing moves before group_end, which returns when all of the group's messages are done. Sends are
  /// synchronous (what would hang NCCL hangs).
  virtual void group_begin() = 0;
  virtual void send(const at::Tensor& tensor, int peer) = 0;
  virtual void receive(at::Tensor& tensor, int peer) = 0;
  virtual void group_end() = 0;
  /// Ends the group as group_end does, without waiting: the messages are posted and travel while the caller computes.
  virtual std::unique_ptr<Work> group_start() = 0;

  /// tensor <- op over ranks, in place.
  virtual void all_reduce(at::Tensor& tensor, ReduceOp op = ReduceOp::kSum) = 0;
  /// out[sum(counts)] <- concatenation of every rank's mine[counts[rank]]; counts in elements. `mine` may alias its
  /// slot of `out`.
  virtual void all_gather_v(const at::Tensor& mine, at::Tensor& out, std::span<const int64_t> counts) = 0;
  /// mine[counts[rank]] <- own slice of the sum over ranks of in[sum(counts)]. `mine` may alias its slot of `in`.
  virtual void reduce_scatter_v(const at::Tensor& in, at::Tensor& mine, std::span<const int64_t> counts) = 0;
  /// Slice r of `in` (in_counts[r] elements) goes to rank r; slice r of `out` (out_counts[r]) comes from it.
  virtual void all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                            std::span<const int64_t> out_counts) = 0;
  virtual void broadcast(at::Tensor& tensor, int root) = 0;
  /// A barrier of the hosts: no rank leaves before all have come. What devices have queued goes on.
  virtual void barrier() = 0;

  /// The collectives above, begun and not waited for: device tensors are the Work's until wait(), and the current
  /// stream goes on meanwhile; tensors of the CPU are done when the call returns. All ranks begin the collectives and
  /// groups of a communicator in one order; waits may come in any.
  virtual std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op = ReduceOp::kSum);
  virtual std::unique_ptr<Work> start_all_gather_v(const at::Tensor& mine, at::Tensor& out,
                                                   std::span<const int64_t> counts);
  virtual std::unique_ptr<Work> start_reduce_scatter_v(const at::Tensor& in, at::Tensor& mine,
                                                       std::span<const int64_t> counts);
  virtual std::unique_ptr<Work> start_all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts,
                                                   at::Tensor& out, std::span<const int64_t> out_counts);

  /// Not collective. Announces a buffer that many calls will use: a device's transport may register its memory, which
  /// is kept until the communicator ends. Changes no result; nothing for CPU tensors.
  virtual void keep_buffer(const at::Tensor& buffer);

  /// Not collective. What this rank has sent so far, collectives included.
  virtual Traffic traffic() const = 0;

  /// Ranks with equal `color` form a new communicator named `axis`, ordered by (key, old rank).
  virtual std::unique_ptr<Communicator> split(const std::string& axis, int color, int key) = 0;

  /// Not collective; on the rank's own thread. Wakes every blocked rank of the job with CommError, on whatever axis it
  /// waits; this communicator and all that come from the same World are dead afterwards (every call throws CommError).
  virtual void abort(const std::string& reason) noexcept = 0;

  /// Not collective. What communicators that are built on this one ask it for.
  virtual const CommOptions& options() const = 0;
  virtual const std::shared_ptr<Journal>& journal() const = 0;
  virtual const std::vector<int>& members() const = 0;  ///< [size] their ranks in the job
};

struct CommOptions {
  /// A wait longer than this, without a sign of life from anyone, is a lost peer.
  std::chrono::milliseconds timeout{std::chrono::minutes(10)};
  /// The longest that a rank gives signs of life in one piece of slow work, from one wait to the next. Two hours: a
  /// disk that hangs must end a job some day, and 140 GB at 20 MB/s must not.
  std::chrono::milliseconds slow_timeout{std::chrono::hours(2)};
  /// Every n-th call first compares {call number, collective, dtype, counts} with each peer that it exchanges messages
  /// with, so that ranks which went different ways fail at once, by name, instead of at the deadline. 0: never.
  int check_every = 1;
  /// Sums are made in rounds whose received parts stay below this much memory: 8 MiB stay in a core's share of the
  /// cache, and a round is long enough for its latency not to count.
  int64_t scratch_bytes = int64_t{8} << 20;
  /// Longer messages travel in pieces (MPI counts are 32-bit).
  int64_t max_message_bytes = int64_t{1} << 30;
  /// Test mode: every message waits a random time up to this long before it is posted, drawn from (delay_seed, rank,
  /// message number). Results must not change.
  std::chrono::microseconds max_delay{0};
  uint64_t delay_seed = 0;
};

}  // namespace fpdist::comm
