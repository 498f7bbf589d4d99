#include "src/generate/wave.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::generate {
namespace {

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

}  // namespace

Wave make_wave(std::span<const std::vector<int32_t>* const> prompts, std::span<const Leaf> leaves,
               const Sharing& sharing) {
  Wave wave;
  std::vector<Parting> parted;
  wave.forest = forest_of(prompts, sharing, parted);
  const int64_t rows = wave.forest.rows();
  for (const prefix::SampleRef& sample : wave.forest.sample) wave.last_row.push_back(sample.last_row);
  for (const auto& [prompt, depth] : parted)
    wave.forest.token[index(path_of(wave, prompt)[depth])] = (*prompts[prompt])[depth];
  int64_t places = rows + kPadding;
  std::vector<int64_t> hangs(index(rows), 0);  // places of the leaves behind this row
  for (const Leaf& leaf : leaves) {
    hangs[index(wave.last_row[leaf.prompt])] += leaf.room;
    places += leaf.room;
  }
  check<DataError>(places <= std::numeric_limits<int32_t>::max(), prompts.size(), " prompts with ", leaves.size(),
                   " completions are ", places, " rows: lower rollout.max_num_seqs or rollout.max_completion_length");
  wave.row.resize(index(rows));
  std::vector<int64_t> next(index(rows));  // the place behind a row and the leaves that hang on it
  for (int64_t r = 0, place = 0; r < rows; ++r) {
    wave.row[index(r)] = static_cast<int32_t>(place);
    place += 1 + hangs[index(r)];
    next[index(r)] = place;
  }
  wave.end.resize(index(places));
  for (int64_t r = 0; r < rows; ++r)
    wave.end[index(wave.row[index(r)])] = static_cast<int32_t>(next[index(wave.forest.subtree_end[index(r)] - 1)]);
  for (const Leaf& leaf : leaves) {
    const auto last = index(wave.last_row[leaf.prompt]);
    const int64_t begin = next[last] - hangs[last];
    hangs[last] -= leaf.room;
    wave.leaf.push_back(static_cast<int32_t>(begin));
    std::fill_n(wave.end.begin() + begin, leaf.room, static_cast<int32_t>(begin + leaf.room));
  }
  for (int64_t i = 0; i < kPadding; ++i) wave.end[index(wave.padding(i))] = wave.padding(i) + 1;
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
