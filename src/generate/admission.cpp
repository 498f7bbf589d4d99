#include "src/generate/admission.hpp"

#include <algorithm>

#include "src/core/index.hpp"
#include "src/generate/wave.hpp"

namespace fpdist::generate {
namespace {

// A leaf's room grows by so many rows at a time. All keys are copied then: about three passes over them, where every
// step's attention makes more than one, over rows that are empty as well.
constexpr int64_t kRoom = 16;
constexpr int64_t kLeastRoom = 8;    // where rows are short: rather one completion less than a copy at every step
constexpr size_t kEnoughEnded = 16;  // completions: fewer say nothing of how long others will be
constexpr double kQuantile = 0.9, kMargin = 1.25;
// Room for others is looked for when an eighth of those that may be in flight have ended, not after each.
constexpr int64_t kShareFree = 8;

}  // namespace

Admission::Admission(Prompts prompts, std::span<Decoding> all, const SamplingOptions& options, int64_t most_rows)
    : prompts_(prompts),
      all_(all),
      options_(options),
      sharing_(options.flex_prefill, options.batch_invariant),
      most_rows_(most_rows),
      length_(options.max_completion_length) {}

int64_t Admission::foreseen(const Decoding& one) const {
  // Who leaves is computed again with all keys, which is not what it has seen: nobody does.
  if (options_.prefix_kv.is_on()) return options_.max_completion_length;
  const auto grown = static_cast<int64_t>(static_cast<double>(one.tokens()) * kMargin) + kLeastRoom;
  return std::min(options_.max_completion_length, std::max(length_, grown));
}

Admission::Need Admission::need(bool is_foreseen, std::span<Decoding* const> more) const {
  const Spacing spacing = spacing_of(options_);
  Need need{.flying = static_cast<int64_t>(more.size()), .rows = padding_of(spacing)};
  std::vector<size_t> prompts;
  const auto take = [&](const Decoding& one) {
    prompts.push_back(one.prompt);
    const int64_t room =
        is_foreseen ? foreseen(one) : std::min(options_.max_completion_length, one.tokens() + kLeastRoom);
    need.rows += places_of_leaf(std::ssize(*prompts_[one.prompt]), room, spacing);
  };
  for (const Decoding& one : all_)
    if (one.is_in_flight()) take(one), ++need.flying;
  for (const Decoding* one : more) take(*one);
  std::sort(prompts.begin(), prompts.end());
  prompts.erase(std::unique(prompts.begin(), prompts.end()), prompts.end());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::vector<int32_t>& prompt = *prompts_[prompts[i]];
    const int64_t shared = i == 0 ? 0 : sharing_.of(*prompts_[prompts[i - 1]], prompt);
    need.rows += places_of_prompt(std::ssize(prompt), shared, spacing);
  }
  return need;
}

std::vector<Decoding*> Admission::next() const {
  for (Decoding& one : all_)
    if (one.standing == Decoding::Standing::kPaused) return {&one};
  std::vector<Decoding*> group;
  for (Decoding& one : all_)
    if (one.standing == Decoding::Standing::kAhead && (group.empty() || group.front()->prompt == one.prompt))
      group.push_back(&one);
  return group;
}

bool Admission::wants_change() const {
  int64_t flying = 0;
  for (const Decoding& one : all_) {
    if (!one.is_in_flight()) continue;
    ++flying;
    if (!one.has_room()) return true;
  }
  const std::vector<Decoding*> entering = next();
  if (entering.empty()) return false;
  if (flying == 0) return true;
  const int64_t free = options_.max_num_seqs - flying;
  return free >= std::max<int64_t>(1, options_.max_num_seqs / kShareFree) && fits(need(true, entering));
}

void Admission::pause_youngest() {
  const auto youngest =
      std::find_if(all_.rbegin(), all_.rend(), [](const Decoding& one) { return one.is_in_flight(); });
  youngest->standing = Decoding::Standing::kPaused;
  youngest->leaf = -1, youngest->waits = true;
}

void Admission::foresee() {
  std::vector<int64_t> ended;
  int64_t longest = 0;
  for (const Decoding& one : all_)
    if (one.standing == Decoding::Standing::kDone)
      ended.push_back(one.tokens());
    else
      longest = std::max(longest, one.tokens());  // those that end first are the short ones
  if (ended.size() < kEnoughEnded) return;
  const auto at = ended.begin() + static_cast<int64_t>(kQuantile * static_cast<double>(ended.size() - 1));
  std::nth_element(ended.begin(), at, ended.end());
  length_ = std::min(options_.max_completion_length,
                     static_cast<int64_t>(static_cast<double>(std::max(*at, longest)) * kMargin) + 1);
}

void Admission::give_room() {
  const Spacing spacing = spacing_of(options_);
  const Need now = need(false);
  const int64_t more =
      now.flying == 0 ? 0 : std::clamp<int64_t>((most_rows_ - now.rows) / now.flying, 0, kRoom - kLeastRoom);
  for (Decoding& one : all_) {
    if (!one.is_in_flight()) continue;
    int64_t room = one.tokens() + kLeastRoom;
    if (spacing == Spacing::kAligned) {  // up to the end of the panel, which is its own anyway
      const int64_t before = std::ssize(*prompts_[one.prompt]) % kPanel;
      room = places_of_leaf(before, room, spacing) - before;
    } else {
      room += more;
    }
    one.room = std::min(options_.max_completion_length, room);
  }
}

int64_t Admission::change() {
  foresee();
  for (Decoding& one : all_)
    if (one.standing == Decoding::Standing::kDone) one.leaf = -1;
  int64_t left = 0;
  for (Need now = need(false); now.rows > most_rows_ && now.flying > 1; now = need(false), ++left) pause_youngest();
  for (std::vector<Decoding*> entering = next(); !entering.empty(); entering = next()) {
    const Need with = need(true, entering);
    const bool is_alone = with.flying == static_cast<int64_t>(entering.size());
    if (!is_alone && !fits(with)) break;
    for (Decoding* one : entering) one->standing = Decoding::Standing::kInFlight;
  }
  give_room();
  return left;
}

}  // namespace fpdist::generate
