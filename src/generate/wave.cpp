#include "src/generate/wave.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/ops/batch_invariant.hpp"

namespace fpdist::generate {

static_assert(kPanel == ops::kInvariantPanel);

namespace {

int64_t rounded_up(int64_t rows) { return (rows + kPanel - 1) / kPanel * kPanel; }

/// A prompt shares its first rows with the one before; from there on it has rows of its own.
struct Parting {
  size_t prompt = 0, depth = 0;
};

/// Where prompts part although their tokens go on being the same, the first of them gets a number in the forest that no
/// token has.
prefix::TreeLayout forest_of(std::span<const std::vector<int32_t>* const> prompts, const Sharing& sharing,
                             std::vector<Parting>& parted) {
  std::vector<data::Sample> samples(prompts.size());
  std::vector<prefix::PackMember> members;
  for (size_t p = 0; p < prompts.size(); ++p) {
    samples[p].token = *prompts[p];
    if (p > 0) {
      const std::vector<int32_t>& last = *prompts[p - 1];
      const auto shared = index(sharing.of(last, *prompts[p]));
      std::copy_n(samples[p - 1].token.begin(), shared, samples[p].token.begin());
      if (shared < std::min(last.size(), prompts[p]->size()) && last[shared] == (*prompts[p])[shared]) {
        samples[p].token[shared] = std::numeric_limits<int32_t>::max() - static_cast<int32_t>(p);
        parted.push_back({p, shared});
      }
    }
    samples[p].target.assign(prompts[p]->size(), data::kIgnore);
    members.push_back({.group = static_cast<int64_t>(p), .index = 0, .sample = &samples[p]});
  }
  return prefix::make_layout(members);
}

/// Puts rows and leaves into their places, in order.
class Placing {
 public:
  Placing(Wave& wave, std::span<const Leaf> leaves, Spacing spacing)
      : wave_(wave), leaves_(leaves), is_aligned_(spacing == Spacing::kAligned), next_(index(wave.forest.rows())) {}

  void run() {
    const prefix::TreeLayout& forest = wave_.forest;
    size_t leaf = 0;
    for (int64_t r = 0; r < forest.rows(); ++r) {
      if (is_aligned_ && forest.depth[index(r)] % kPanel == 0) place_ = rounded_up(place_);
      wave_.row.push_back(static_cast<int32_t>(place_++));
      for (; leaf < leaves_.size() && wave_.last_row[leaves_[leaf].prompt] == r; ++leaf)
        put(leaves_[leaf], forest.depth[index(r)] + 1);
      next_[index(r)] = place_;
    }
    check(leaf == leaves_.size(), "leaves stand in the order of their prompts");
  }
  int64_t places() const { return place_; }

  void set_ends() {
    for (size_t i = 0; i < wave_.end.size(); ++i) wave_.end[i] = static_cast<int32_t>(i) + 1;  // nobody's
    for (size_t r = 0; r < next_.size(); ++r)
      wave_.end[index(wave_.row[r])] = static_cast<int32_t>(next_[index(wave_.forest.subtree_end[r] - 1)]);
    for (size_t i = 0; i < leaves_.size(); ++i) {
      const int32_t end = wave_.leaf[i] + static_cast<int32_t>(leaves_[i].room);
      std::fill(wave_.end.begin() + wave_.leaf[i], wave_.end.begin() + end, end);
    }
  }

 private:
  void put(const Leaf& leaf, int64_t depth) {
    if (is_aligned_) place_ = rounded_up(place_) + depth % kPanel;
    wave_.leaf.push_back(static_cast<int32_t>(place_));
    place_ += leaf.room;
  }

  Wave& wave_;
  std::span<const Leaf> leaves_;
  bool is_aligned_;
  std::vector<int64_t> next_;  // [forest rows] the place behind a row and the leaves that hang on it
  int64_t place_ = 0;
};

}  // namespace

Wave make_wave(std::span<const std::vector<int32_t>* const> prompts, std::span<const Leaf> leaves,
               const Sharing& sharing, Spacing spacing) {
  Wave wave;
  std::vector<Parting> parted;
  wave.forest = forest_of(prompts, sharing, parted);
  wave.padding_rows = padding_of(spacing);
  for (const prefix::SampleRef& sample : wave.forest.sample) wave.last_row.push_back(sample.last_row);
  for (const auto& [prompt, depth] : parted)
    wave.forest.token[index(path_of(wave, prompt)[depth])] = (*prompts[prompt])[depth];
  int64_t most = wave.padding_rows;
  for (const std::vector<int32_t>* prompt : prompts) most += places_of_prompt(std::ssize(*prompt), 0, spacing);
  for (const Leaf& leaf : leaves) most += places_of_leaf(std::ssize(*prompts[leaf.prompt]), leaf.room, spacing);
  check<DataError>(most <= std::numeric_limits<int32_t>::max(), prompts.size(), " prompts with ", leaves.size(),
                   " completions are up to ", most,
                   " rows: lower rollout.max_num_seqs or rollout.max_completion_length");
  Placing placing(wave, leaves, spacing);
  placing.run();
  wave.end.resize(index(placing.places() + wave.padding_rows));
  placing.set_ends();
  return wave;
}

std::vector<int32_t> path_of(const Wave& wave, size_t prompt) {
  const std::vector<prefix::Node>& nodes = wave.forest.node;
  const int32_t last = wave.last_row[prompt];
  auto node = std::upper_bound(nodes.begin(), nodes.end(), last,
                               [](int32_t row, const prefix::Node& one) { return row < one.begin; }) -
              nodes.begin() - 1;
  std::vector<int32_t> rows(index(wave.forest.depth[index(last)]) + 1);
  for (int32_t end = last + 1; node >= 0; node = nodes[index(node)].parent) {
    const prefix::Node& one = nodes[index(node)];
    std::iota(rows.begin() + one.depth, rows.begin() + one.depth + (end - one.begin), one.begin);
    end = one.parent >= 0 ? nodes[index(one.parent)].end : 0;
  }
  return rows;
}

}  // namespace fpdist::generate
