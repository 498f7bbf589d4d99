#pragma once
// comm, private: Journal, what a rank is doing and what it has called lately, for error texts and the flight record.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "src/core/clock.hpp"

namespace fpdist::comm {

enum class Collective : int32_t {
  kGroup,
  kAllReduce,
  kAllGatherV,
  kReduceScatterV,
  kAllToAllV,
  kBroadcast,
  kBarrier,
  kSplit
};
const char* name_of(Collective collective);

/// Strings that many calls share; never null.
using SharedText = std::shared_ptr<const std::string>;

/// A call as the flight record shows it.
struct CallRecord {
  enum class State { kStarted, kDone, kFailed };
  Collective collective = Collective::kBarrier;
  int64_t sequence = 0;      ///< number of the call on its communicator; groups have a count of their own
  const char* dtype = "";    ///< of the tensors; empty where there are none
  int64_t bytes = 0;         ///< of the call's tensor; in a group of all its tensors
  std::vector<int> peers{};  ///< job ranks
  SharedText axis{}, position{};
  double seconds = 0;  ///< since the World was made
  State state = State::kStarted;
};

/// What a rank has heard of another one that is alive and busy with work of its own.
struct Sign {
  int rank = 0;  ///< of the job
  std::string work{};
  Clock::time_point heard{};
};

/// The calls of all communicators of a World, what the rank does between them, and what it has heard of the others.
/// From any thread, so that a watchdog can write the flight record.
class Journal {
 public:
  static constexpr size_t kLength = 64;  ///< calls kept: a step's last ones on every axis, and a record that is read

  void set_position(std::string position);
  SharedText position() const;
  /// Enters a call at the present position and time; returns its id.
  int64_t open(CallRecord call);
  /// The call's end; one that has left the ring by now is forgotten.
  void close(int64_t id, CallRecord::State state) noexcept;
  /// The flight record (World::flight_record).
  std::string json(int rank, int world_size) const;

  /// Slow work of the rank's own (comm::SlowWork), one in the other.
  void begin_slow(std::string work);
  void end_slow() noexcept;
  /// A wait for other ranks: while one is open the rank does nothing of its own.
  void begin_wait();
  void end_wait() noexcept;
  /// The innermost slow work, unless the rank waits, or has done the same piece of it, without a wait, for `most`.
  std::optional<std::string> slow_work(std::chrono::milliseconds most) const;

  /// `work` is what job rank `rank` is busy with, now.
  void hear(int rank, std::string work);
  /// The newest sign of any other rank; heard at the clock's beginning where there was none.
  Sign last_sign() const;

 private:
  mutable std::mutex mutex_;
  SharedText position_ = std::make_shared<const std::string>();
  const Clock::time_point made_ = Clock::now();
  int64_t next_ = 0;
  std::array<CallRecord, kLength> ring_;  ///< call i at i modulo kLength
  std::vector<std::string> slow_;         ///< work under way, innermost last
  int waits_ = 0;
  Clock::time_point piece_begun_{};  ///< of slow work: its beginning, or the last wait's end
  Sign last_sign_;
};

/// A wait in the journal for as long as the scope.
class OpenWait {
 public:
  explicit OpenWait(Journal& journal) : journal_(journal) { journal_.begin_wait(); }
  ~OpenWait() { journal_.end_wait(); }
  OpenWait(const OpenWait&) = delete;
  OpenWait& operator=(const OpenWait&) = delete;

 private:
  Journal& journal_;
};

/// A call in the journal for as long as it blocks: done at the end of the scope, failed when an error unwinds it.
class OpenCall {
 public:
  OpenCall(Journal& journal, CallRecord call);
  ~OpenCall();
  OpenCall(const OpenCall&) = delete;
  OpenCall& operator=(const OpenCall&) = delete;
  /// Leaves the closing to the caller, who gets the id.
  int64_t release();

 private:
  Journal& journal_;
  int64_t id_;
  int exceptions_;
};

/// Where a call is: starts every error text. "all_reduce, call 17, on axis dp, rank 2 of 4 (world rank 5), at step 3"
struct Place {
  Collective collective = Collective::kBarrier;
  int64_t sequence = 0;
  SharedText axis{};
  int rank = 0, size = 1, world_rank = 0;
  SharedText position{};             ///< when the call was started
  const Journal* journal = nullptr;  ///< knows the position now
};
std::ostream& operator<<(std::ostream& out, const Place& place);

/// Where a rank is before there is a call: "axis dp, rank 2, at step 3".
struct Here {
  const std::string& axis;
  int rank;
  const Journal& journal;
};
std::ostream& operator<<(std::ostream& out, const Here& here);

}  // namespace fpdist::comm
