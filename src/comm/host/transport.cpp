#include "src/comm/host/transport.hpp"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/clock.hpp"

namespace fpdist::comm {
namespace {

constexpr std::chrono::seconds kLaterRound(1);  // at most: more than the ranks' clocks of one call are apart

std::string describe(const MessageHeader& header) {
  return text(name_of(header.collective), " (call ", header.sequence, ", ", header.bytes, " bytes of ",
              c10::toString(static_cast<c10::ScalarType>(header.dtype)), ", signature ", std::hex, header.detail, ")");
}

}  // namespace

std::chrono::milliseconds Transport::sign_period() const {
  return std::clamp<std::chrono::milliseconds>(options().timeout / 8, std::chrono::milliseconds(10),
                                               std::chrono::seconds(10));
}

Clock::time_point Transport::deadline_of(Clock::time_point start, const Exchange& exchange) const {
  const auto later = std::min<std::chrono::milliseconds>(options().timeout / 8, kLaterRound);
  return std::max(start, journal_->last_sign().heard) + options().timeout + exchange.round * later;
}

void Transport::delay_message() {
  const int64_t longest = options().max_delay.count();
  if (longest <= 0) return;
  const uint64_t draw =
      philox(options().delay_seed, static_cast<uint64_t>(delayed_++), static_cast<uint64_t>(rank()))[0];
  std::this_thread::sleep_for(std::chrono::microseconds(draw % static_cast<uint64_t>(longest + 1)));
}

std::string lost_text(const Exchange& exchange, const std::vector<int>& peers, const CommOptions& options) {
  std::string who;
  for (const int peer : peers) who += (who.empty() ? "" : ", ") + std::to_string(peer);
  // Not of these peers alone: they may wait for the one who gave it.
  const Sign sign = exchange.place.journal->last_sign();
  const bool is_heard = sign.heard != Clock::time_point{};
  return text(
      exchange.place, ": no answer from world rank ", who, " within ", to_seconds(options.timeout),
      " s; it died, was stopped, or is not in this call",
      is_heard ? text("; ", seconds_since(sign.heard), " s ago world rank ", sign.rank, " was ", sign.work) : "",
      ". Its log says where it was; a step that really takes longer needs a longer timeout");
}

std::string mismatch_text(const Exchange& exchange, int peer, const MessageHeader& mine, const MessageHeader& theirs) {
  return text(exchange.place, ": world rank ", peer, " is in ", describe(theirs), " while this rank is in ",
              describe(mine), "; all ranks must make the same calls in the same order with matching counts and dtypes");
}

std::string aborted_text(const Place& place, const std::string& reason) {
  return text(place, ": the job was aborted: ", reason);
}

std::string abort_reason(const Transport& transport, const std::string& reason) {
  const SharedText position = transport.journal()->position();
  return text("world rank ", transport.rank(), position->empty() ? "" : " at ", *position, ": ", reason);
}

}  // namespace fpdist::comm
