#include "src/generate/wave.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::generate {
namespace {

prefix::TreeLayout forest_of(std::span<const std::vector<int32_t>* const> prompts) {
  std::vector<data::Sample> samples(prompts.size());
  std::vector<prefix::PackMember> members;
  for (size_t p = 0; p < prompts.size(); ++p) {
    samples[p].token = *prompts[p];
    samples[p].target.assign(prompts[p]->size(), data::kIgnore);
    members.push_back({.group = static_cast<int64_t>(p), .index = 0, .sample = &samples[p]});
  }
  return prefix::make_layout(members);
}

}  // namespace

Wave make_wave(std::span<const std::vector<int32_t>* const> prompts, int64_t completions, int64_t length) {
  Wave wave;
  wave.forest = forest_of(prompts);
  const int64_t rows = wave.forest.rows(), room = completions * length;
  const int64_t places = rows + static_cast<int64_t>(prompts.size()) * room + kPadding;
  check<DataError>(places <= std::numeric_limits<int32_t>::max(), prompts.size(), " prompts with ", completions,
                   " completions of up to ", length, " tokens are ", places,
                   " rows: lower rollout.max_num_seqs or rollout.max_completion_length");
  std::vector<int64_t> ends_at(index(rows), 0);  // prompts whose last token is this row
  for (const prefix::SampleRef& sample : wave.forest.sample) {
    wave.last_row.push_back(sample.last_row);
    ++ends_at[index(sample.last_row)];
  }
  wave.row.resize(index(rows));
  std::vector<int64_t> next(index(rows));  // the place behind a row and the leaves that hang on it
  for (int64_t r = 0, place = 0; r < rows; ++r) {
    wave.row[index(r)] = static_cast<int32_t>(place);
    place += 1 + ends_at[index(r)] * room;
    next[index(r)] = place;
  }
  wave.end.resize(index(places));
  for (int64_t r = 0; r < rows; ++r)
    wave.end[index(wave.row[index(r)])] = static_cast<int32_t>(next[index(wave.forest.subtree_end[index(r)] - 1)]);
  std::vector<int64_t> taken(index(rows), 0);
  for (size_t p = 0; p < prompts.size(); ++p) {
    const auto last = index(wave.last_row[p]);
    for (int64_t i = 0; i < completions; ++i) {
      const int64_t begin = wave.row[last] + 1 + length * taken[last]++;
      wave.leaf.push_back(static_cast<int32_t>(begin));
      std::fill_n(wave.end.begin() + begin, length, static_cast<int32_t>(begin + length));
    }
  }
  for (int64_t i = 0; i < kPadding; ++i) wave.end[index(wave.padding(i))] = wave.padding(i) + 1;
  wave.order.resize(wave.leaf.size());
  std::iota(wave.order.begin(), wave.order.end(), 0);
  std::sort(wave.order.begin(), wave.order.end(),
            [&](int32_t a, int32_t b) { return wave.leaf[index(a)] < wave.leaf[index(b)]; });
  return wave;
}

}  // namespace fpdist::generate
