#include "src/plan/pack/local_search.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {

enum Change { kSwap, kExchange, kShift, kMoveSlice };

/// Changes within one replica, drawn evenly. Whole packs: order and content; any mix of the two does (0.03 %). Slices:
/// without shifted ends steps are 0.19 % longer in the mean, up to 2.6 %, without exchanges 0.10 %, without moved
/// slices 0.05 % where there are 4 to 20 samples. Swapped packs and moved slices change the op lists, which costs more
/// than to run them: one in eight each (two moves: 0.14 % longer).
constexpr std::array<Change, 8> kWhole{kSwap, kSwap, kSwap, kSwap, kExchange, kExchange, kExchange, kExchange};
constexpr std::array<Change, 8> kSliced{kShift, kShift, kShift, kExchange, kExchange, kExchange, kSwap, kMoveSlice};

}  // namespace

/// One atom of the pack, or all that it has of one cluster.
std::vector<int32_t> LocalSearch::pick(const PackDraft& pack) {
  const int32_t chosen = pack.sample[below(pack.sample.size())];
  const std::vector<int32_t>& label = below(2) ? problem_.cluster_of : problem_.atom_of;
  std::vector<int32_t> picked;
  for (const int32_t s : pack.sample)
    if (label[index(s)] == label[index(chosen)]) picked.push_back(s);
  return picked;
}

/// Some samples of `a` go to `b`, and at times some of `b` come back.
bool LocalSearch::exchange_samples(PackDraft& a, PackDraft& b) {
  const std::vector<int32_t> to_b = pick(a), to_a = below(2) ? pick(b) : std::vector<int32_t>();
  const auto change = [](PackDraft& pack, const std::vector<int32_t>& out, const std::vector<int32_t>& in) {
    std::vector<int32_t> kept, all;
    std::set_difference(pack.sample.begin(), pack.sample.end(), out.begin(), out.end(), std::back_inserter(kept));
    std::merge(kept.begin(), kept.end(), in.begin(), in.end(), std::back_inserter(all));
    pack.sample = std::move(all);
  };
  change(a, to_b, to_a);
  change(b, to_a, to_b);
  if (a.sample.empty() || b.sample.empty()) return false;
  pricer_.price(a), pricer_.price(b);
  return a.rows() <= problem_.most_rows && b.rows() <= problem_.most_rows;
}

bool LocalSearch::shift_end(PackDraft& pack) {
  if (pack.ends.empty()) return false;
  const size_t i = below(pack.ends.size());
  const int64_t low = i ? pack.ends[i - 1] : 0, high = i + 1 < pack.ends.size() ? pack.ends[i + 1] : kWholePack;
  // By a half to a 32nd of the room: halves alone make small steps up to 2.6 % longer.
  const int64_t room = (high - low) >> (1 + below(5));
  pack.ends[i] += below(2) ? room : -room;
  if (pack.ends[i] <= low || pack.ends[i] >= high) return false;
  pricer_.price(pack);
  return true;
}

/// A slice fewer in one pack, one more in the other.
bool LocalSearch::move_slice(PackDraft& from, PackDraft& to) {
  if (from.ends.empty()) return false;
  from.ends.erase(from.ends.begin() + static_cast<std::ptrdiff_t>(below(from.ends.size())));
  const size_t at = below(to.ends.size() + 1);
  const int64_t low = at ? to.ends[at - 1] : 0, high = at < to.ends.size() ? to.ends[at] : kWholePack;
  to.ends.insert(to.ends.begin() + static_cast<std::ptrdiff_t>(at), low + (high - low) / 2);
  pricer_.price(from), pricer_.price(to);
  return true;
}

void LocalSearch::exchange_with(ReplicaDraft& draft, ReplicaDraft& other) {
  if (other.pack.empty()) return;
  PackDraft &mine = draft.pack[below(draft.pack.size())], &theirs = other.pack[below(other.pack.size())];
  PackDraft mine_before = mine, theirs_before = theirs;
  if (exchange_samples(mine, theirs)) {
    const int64_t most = draft.makespan - 1 + leeway(draft);
    const int64_t makespan = pricer_.makespan(draft, most);
    const int64_t others = makespan != kNever ? pricer_.makespan(other, most) : kNever;
    if (others != kNever) {
      draft.makespan = makespan;
      other.makespan = others;
      return;
    }
  }
  mine = std::move(mine_before);
  theirs = std::move(theirs_before);
}

void LocalSearch::change_alone(ReplicaDraft& draft) {
  const size_t i = below(draft.pack.size()), j = below(draft.pack.size());
  PackDraft &a = draft.pack[i], &b = draft.pack[j];
  const bool is_sliced = draft.window > 1 || !a.ends.empty();
  const Change kind = problem_.stages == 1 ? kExchange : (is_sliced ? kSliced : kWhole)[below(8)];
  if (kind != kShift && i == j) return;
  PackDraft a_before = a, b_before = b;
  const int window_before = draft.window;
  bool changed = true;
  if (kind == kSwap) {
    std::swap(a, b);
  } else if (kind == kExchange) {
    changed = exchange_samples(a, b);
  } else if (kind == kShift) {
    changed = shift_end(a);
  } else {
    changed = move_slice(a, b);
    if (draft.window > 1) draft.window = longest(draft);
  }
  const int64_t makespan = changed ? pricer_.makespan(draft, draft.makespan + leeway(draft)) : kNever;
  if (makespan != kNever) {
    draft.makespan = makespan;
    return;
  }
  b = std::move(b_before);
  a = std::move(a_before);
  draft.window = window_before;
}

/// The pack without some of its samples, which are returned; it vanishes when these were all.
std::vector<int32_t> LocalSearch::take_samples(ReplicaDraft& draft) {
  const size_t i = below(draft.pack.size());
  std::vector<int32_t> picked = pick(draft.pack[i]), kept;
  const std::vector<int32_t>& all = draft.pack[i].sample;
  std::set_difference(all.begin(), all.end(), picked.begin(), picked.end(), std::back_inserter(kept));
  draft.pack[i].sample = std::move(kept);
  if (draft.pack[i].sample.empty()) {
    draft.pack.erase(draft.pack.begin() + static_cast<std::ptrdiff_t>(i));
  } else {
    pricer_.price(draft.pack[i]);
  }
  return picked;
}

/// Adds samples to a new pack or to another one; false when that gets too long.
bool LocalSearch::give_samples(ReplicaDraft& draft, const std::vector<int32_t>& samples) {
  const size_t j = below(draft.pack.size() + 1);
  if (j == draft.pack.size() || below(2)) draft.pack.emplace(draft.pack.begin() + static_cast<std::ptrdiff_t>(j));
  PackDraft& to = draft.pack[j];
  std::vector<int32_t> joined;
  std::merge(to.sample.begin(), to.sample.end(), samples.begin(), samples.end(), std::back_inserter(joined));
  to.sample = std::move(joined);
  pricer_.price(to);
  if (draft.window > 1) draft.window = longest(draft);
  return to.rows() <= problem_.most_rows;
}

/// Moves samples within a replica; the number of packs may change.
void LocalSearch::change_packs(ReplicaDraft& draft) {
  ReplicaDraft next = draft;
  if (!give_samples(next, take_samples(next))) return;
  // More packs have to pay.
  const int64_t most = draft.makespan + leeway(draft) - (next.pack.size() > draft.pack.size() ? 1 : 0);
  next.makespan = pricer_.makespan(next, most);
  if (next.makespan != kNever) draft = std::move(next);
}

/// Moves samples from one replica to another.
void LocalSearch::change_packs_of(ReplicaDraft& draft, ReplicaDraft& other) {
  ReplicaDraft next = draft, theirs = other;
  if (!give_samples(theirs, take_samples(next))) return;
  const int64_t most = draft.makespan - 1 + leeway(draft);
  next.makespan = pricer_.makespan(next, most);
  if (next.makespan == kNever) return;
  theirs.makespan = pricer_.makespan(theirs, most);
  if (theirs.makespan == kNever) return;
  draft = std::move(next);
  other = std::move(theirs);
}

void LocalSearch::run_with_shakes(int64_t operations, int64_t enough) {
  // An eighth of each round is a shake: half makes steps of 4 to 20 samples 0.18 % longer, none 0.10 %; 12 to 200
  // rounds do as well, 6 cost 0.03 %.
  constexpr int64_t kRounds = 48, kShake = 8;
  if (replicas_[slowest()].makespan <= enough) return;
  run(operations / kRounds);
  for (int64_t round = 1; round < kRounds && replicas_[slowest()].makespan > enough; ++round) {
    const std::vector<ReplicaDraft> before = replicas_;
    const int64_t makespan = replicas_[slowest()].makespan;
    may_worsen_ = true;
    run(operations / kRounds / kShake);
    may_worsen_ = false;
    run(operations / kRounds - operations / kRounds / kShake);
    if (replicas_[slowest()].makespan <= makespan) continue;
    replicas_ = before;
    for (size_t r = 0; r < replicas_.size(); ++r) rank(r);
  }
}

void LocalSearch::run(int64_t operations) {
  // A proposal costs something even when nothing is simulated; that ends searches in which nothing can be.
  constexpr int64_t kProposal = 200;
  const int64_t end = pricer_.effort() + operations;
  for (int64_t proposals = 0; pricer_.effort() + proposals * kProposal < end; ++proposals) {
    const size_t r = slowest();
    if (replicas_[r].pack.empty()) return;
    propose(r);
  }
}

void LocalSearch::propose(size_t r) {
  // Two in sixteen exchange samples with another replica, one gives some to another pack of its own or to a new one,
  // the rest change order, content or slices of what is there: 0 to 4 exchanges make no difference of 0.07 %, without
  // new packs steps of 4 to 20 samples are 0.09 % longer. With one stage, where nothing but content counts, eight
  // exchange, three give to another replica and three to themselves: with 12 exchanges, or nothing given, few large
  // groups take up to 17 % longer.
  constexpr size_t kKinds = 16;
  const size_t kind = below(kKinds), other = below(replicas_.size());
  const bool is_flat = problem_.stages == 1;  // no order: what counts is who has what
  const bool is_within = kind == 2 || (is_flat && kind > 12);
  if (kind < (is_flat ? 8 : 2) && other != r) {
    exchange_with(replicas_[r], replicas_[other]);
  } else if (is_flat && kind < 11 && other != r) {
    change_packs_of(replicas_[r], replicas_[other]);
  } else if (is_within && problem_.schedule != Schedule::kInterleaved) {
    change_packs(replicas_[r]);
  } else {
    change_alone(replicas_[r]);
  }
  rank(r), rank(other);
}

}  // namespace fpdist::plan
