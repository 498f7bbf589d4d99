#pragma once
// comm, private: Transport, the one thing that thread ranks and MPI ranks do differently: move bytes between two ranks.
// HostCommunicator builds every collective on it, so both give the same bits.

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "src/comm/journal.hpp"
#include "src/core/clock.hpp"

namespace fpdist::comm {

/// What both ends of a message must agree on; it travels ahead of the message when the message is `checked`.
struct MessageHeader {
  Collective collective = Collective::kBarrier;
  int32_t dtype = 0;     ///< at::ScalarType
  int64_t sequence = 0;  ///< number of the call on its communicator; in a group, of the message between the two ranks
  int64_t detail = 0;    ///< what every rank must pass alike: counts, root, reduction
  int64_t bytes = 0;
  bool operator==(const MessageHeader&) const = default;
};

struct Message {
  int peer = 0;  ///< rank in the job
  char* data = nullptr;
  MessageHeader header;
  bool checked = false;
  at::Tensor owner;  ///< keeps `data` alive when the exchange fails with the message on its way
};

/// All messages of one call, posted together.
struct Exchange {
  int tag = 0;  ///< of the communicator
  std::vector<Message> sends, receives;
  Place place;
  /// Of a call in which later rounds hand on what earlier ones brought: who waits there waits longer, so that the one
  /// who waits for the absent rank itself names it first.
  int round = 0;
};

/// Whose turn it is: receives of one tag from one peer begin in the order in which they were started, whichever is
/// waited for first.
struct Turns {
  int64_t given = 0, served = 0;
};
using TurnTable = std::map<std::pair<int, int>, Turns>;  ///< by tag, peer

/// What moves the bytes of all communicators of a World. Calls come from the rank's own thread.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const CommOptions& options() const = 0;
  /// Posts the messages; wait() returns when every send has been received and every receive has arrived. Exchanges may
  /// be waited for in any order: whichever is waited for, all that were started move on. Messages of the same tag
  /// between two ranks keep their order. Throws CommError at the deadline (deadline_of), on a header that differs, and
  /// after an abort; the transport is dead afterwards. Peers other than the own rank only. A Work that is
  /// given up unwaited leaves its messages to the transport, which holds their memory.
  virtual std::unique_ptr<Work> start(Exchange exchange) = 0;
  virtual void abort(const std::string& reason) noexcept = 0;
  const std::shared_ptr<Journal>& journal() const { return journal_; }
  /// First tag that no communicator of this rank uses.
  int next_tag() const { return next_tag_; }
  void set_next_tag(int tag) { next_tag_ = tag; }

 protected:
  /// Sleeps before a message is posted, as CommOptions::max_delay asks.
  void delay_message();
  /// Between two signs of life, and between two looks for those of others.
  std::chrono::milliseconds sign_period() const;
  /// Of a wait that began at `start`: counted from there, or from the last sign of life of any other rank.
  Clock::time_point deadline_of(Clock::time_point start, const Exchange& exchange) const;

 private:
  int next_tag_ = 1;
  int64_t delayed_ = 0;
  std::shared_ptr<Journal> journal_ = std::make_shared<Journal>();
};

/// Error texts that both transports share.
std::string lost_text(const Exchange& exchange, const std::vector<int>& peers, const CommOptions& options);
std::string mismatch_text(const Exchange& exchange, int peer, const MessageHeader& mine, const MessageHeader& theirs);
std::string aborted_text(const Place& place, const std::string& reason);
/// What the others hear of an abort: who and where.
std::string abort_reason(const Transport& transport, const std::string& reason);

}  // namespace fpdist::comm
