#include "src/comm/journal.hpp"

#include <algorithm>
#include <exception>
#include <iomanip>
#include <sstream>
#include <utility>

#include "src/core/index.hpp"

namespace fpdist::comm {
namespace {

const char* name_of(CallRecord::State state) {
  switch (state) {
    case CallRecord::State::kStarted:
      return "started";
    case CallRecord::State::kDone:
      return "done";
    case CallRecord::State::kFailed:
      return "failed";
  }
  return "unknown";
}

/// A JSON string.
struct Quoted {
  const std::string& text;
};
std::ostream& operator<<(std::ostream& out, const Quoted& quoted) {
  out << '"';
  for (const char c : quoted.text) {
    if (c == '"' || c == '\\') {
      out << '\\' << c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out << "\\u00" << (c < 0x10 ? '0' : '1') << "0123456789abcdef"[c & 15];
    } else {
      out << c;
    }
  }
  return out << '"';
}

std::ostream& operator<<(std::ostream& out, const CallRecord& call) {
  out << R"({"sequence": )" << call.sequence << R"(, "collective": ")" << name_of(call.collective) << R"(", "axis": )"
      << Quoted{*call.axis} << R"(, "dtype": ")" << call.dtype << R"(", "bytes": )" << call.bytes << R"(, "peers": [)";
  for (size_t i = 0; i < call.peers.size(); ++i) out << (i ? ", " : "") << call.peers[i];
  return out << R"(], "position": )" << Quoted{*call.position} << R"(, "seconds": )" << call.seconds
             << R"(, "state": ")" << name_of(call.state) << R"("})";
}

}  // namespace

const char* name_of(Collective collective) {
  switch (collective) {
    case Collective::kGroup:
      return "group";
    case Collective::kAllReduce:
      return "all_reduce";
    case Collective::kAllGatherV:
      return "all_gather_v";
    case Collective::kReduceScatterV:
      return "reduce_scatter_v";
    case Collective::kAllToAllV:
      return "all_to_all_v";
    case Collective::kBroadcast:
      return "broadcast";
    case Collective::kBarrier:
      return "barrier";
    case Collective::kSplit:
      return "split";
  }
  return "unknown collective";
}

void Journal::set_position(std::string position) {
  auto shared = std::make_shared<const std::string>(std::move(position));
  const std::lock_guard lock(mutex_);
  position_ = std::move(shared);
}

SharedText Journal::position() const {
  const std::lock_guard lock(mutex_);
  return position_;
}

int64_t Journal::open(CallRecord call) {
  call.seconds = seconds_since(made_);
  const std::lock_guard lock(mutex_);
  call.position = position_;
  ring_[index(next_) % kLength] = std::move(call);
  return next_++;
}

void Journal::close(int64_t id, CallRecord::State state) noexcept {
  const std::lock_guard lock(mutex_);
  if (id + static_cast<int64_t>(kLength) >= next_) ring_[index(id) % kLength].state = state;
}

std::string Journal::json(int rank, int world_size) const {
  const std::lock_guard lock(mutex_);
  std::ostringstream out;
  out << std::fixed << std::setprecision(6) << R"({"rank": )" << rank << R"(, "world_size": )" << world_size
      << R"(, "position": )" << Quoted{*position_} << R"(, "calls": [)";
  const int64_t first = std::max<int64_t>(0, next_ - static_cast<int64_t>(kLength));
  for (int64_t id = first; id < next_; ++id) {
    out << (id > first ? ",\n" : "\n") << ring_[index(id) % kLength];
  }
  out << "]}\n";
  return out.str();
}

void Journal::begin_slow(std::string work) {
  const std::lock_guard lock(mutex_);
  if (slow_.empty()) piece_begun_ = Clock::now();
  slow_.push_back(std::move(work));
}

void Journal::end_slow() noexcept {
  const std::lock_guard lock(mutex_);
  slow_.pop_back();
}

void Journal::begin_wait() {
  const std::lock_guard lock(mutex_);
  ++waits_;
}

void Journal::end_wait() noexcept {
  const std::lock_guard lock(mutex_);
  --waits_;
  piece_begun_ = Clock::now();
}

std::optional<std::string> Journal::slow_work(std::chrono::milliseconds most) const {
  const std::lock_guard lock(mutex_);
  if (slow_.empty() || waits_ > 0 || Clock::now() - piece_begun_ > most) return std::nullopt;
  return slow_.back();
}

void Journal::hear(int rank, std::string work) {
  const std::lock_guard lock(mutex_);
  last_sign_ = {.rank = rank, .work = std::move(work), .heard = Clock::now()};
}

Sign Journal::last_sign() const {
  const std::lock_guard lock(mutex_);
  return last_sign_;
}

OpenCall::OpenCall(Journal& journal, CallRecord call)
    : journal_(journal), id_(journal.open(std::move(call))), exceptions_(std::uncaught_exceptions()) {}

OpenCall::~OpenCall() {
  if (id_ < 0) return;
  const bool is_failed = std::uncaught_exceptions() > exceptions_;
  journal_.close(id_, is_failed ? CallRecord::State::kFailed : CallRecord::State::kDone);
}

int64_t OpenCall::release() { return std::exchange(id_, -1); }

std::ostream& operator<<(std::ostream& out, const Place& place) {
  out << name_of(place.collective) << ", call " << place.sequence << ", on axis " << *place.axis << ", rank "
      << place.rank << " of " << place.size << " (world rank " << place.world_rank << ")";
  const SharedText now = place.journal->position();
  if (*now == *place.position) return now->empty() ? out : out << ", at " << *now;
  return out << ", started at " << *place.position << ", now at " << *now;
}

std::ostream& operator<<(std::ostream& out, const Here& here) {
  const SharedText now = here.journal.position();
  return out << "axis " << here.axis << ", rank " << here.rank << (now->empty() ? "" : ", at ") << *now;
}

}  // namespace fpdist::comm
