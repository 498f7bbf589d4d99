#include "src/data/rows/step_row.hpp"

#include <algorithm>
#include <string>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/data/rows/row_values.hpp"

namespace fpdist::data {
namespace {

using enum Column;
using Ids = std::vector<int32_t>;

void append(const Ids& ids, Sample& sample) {
  sample.token.insert(sample.token.end(), ids.begin(), ids.end());
  sample.target.resize(sample.token.size(), kIgnore);
}

}  // namespace

void check_classes(const Row& row, const GroupMaker& maker, bool may_ignore) {
  for (const int32_t label : row.get<Ids>(kLabels))
    if (label != 0 && label != 1 && !(may_ignore && label == kIgnore))
      fail_at(row.place, row.offset(kLabels),
              text(maker.names.in_file(kLabels), " holds ", label, ": a step is right or not, true or false, 1 or 0",
                   may_ignore ? text(", and ", kIgnore, " at all other tokens") : ""));
}

void to_targets(Sample& sample) {
  if (sample.token.empty()) return;
  sample.token.push_back(sample.token.back());
  sample.target.insert(sample.target.begin(), kIgnore);
  if (!sample.weight.empty()) sample.weight.insert(sample.weight.begin(), 1.0);
}

Sample to_labels(Sample sample) {
  if (sample.token.empty()) return sample;
  sample.token.pop_back();
  sample.target.erase(sample.target.begin());
  if (!sample.weight.empty()) sample.weight.erase(sample.weight.begin());
  return sample;
}

StepRow::StepRow(const Row& row, const GroupMaker& maker) : row_(row), maker_(maker) {
  if (!row.holds<std::string>(kPrompt) || !row.holds<std::vector<std::string>>(kCompletions))
    fail_at(row.place, row.offset(kCompletions),
            text("'", maker.names.in_file(kPrompt), "' is a text here and '", maker.names.in_file(kCompletions),
                 "' its steps, a list of texts"));
  check_classes(row, maker, /*may_ignore=*/false);
  check_length(row, row.offset(kLabels), row.get<Ids>(kLabels).size(), maker.names.in_file(kLabels),
               row.get<std::vector<std::string>>(kCompletions).size(), maker.names.in_file(kCompletions));
}

std::vector<TextRequest> StepRow::requests(std::span<const RenderedText>) const {
  std::vector<TextRequest> all{{.text = row_.get<std::string>(kPrompt), .bare = true},
                               {.text = maker_.options.step_separator, .bare = true}};
  for (const std::string& step : row_.get<std::vector<std::string>>(kCompletions))
    all.push_back({.text = step, .bare = true});
  return all;
}

MadeGroup StepRow::make(std::span<const EncodedText> encoded) const {
  for (const EncodedText& one : encoded)
    if (!one.error.empty()) fail_at(row_.place, row_.offset(kCompletions), one.error);
  const Ids& labels = row_.get<Ids>(kLabels);
  Sample sample;
  if (maker_.bos_id >= 0) append({maker_.bos_id}, sample);
  append(encoded[0].id, sample);
  sample.prompt_length = static_cast<int32_t>(sample.token.size());
  for (size_t step = 0; step < labels.size(); ++step) {
    const size_t before = sample.token.size();
    append(encoded[2 + step].id, sample), append(encoded[1].id, sample);
    if (sample.token.size() == before)
      fail_at(row_.place, row_.offset(kCompletions),
              text("step ", step + 1,
                   " has no token, and its label nowhere to stand: leave it out, or give "
                   "data.step_separator a text"));
    if (!maker_.options.train_on_last_step_only || step + 1 == labels.size()) sample.target.back() = labels[step];
  }
  MadeGroup made{.group = Group{}, .uid = uid_of(row_, maker_)};
  const size_t most = index(maker_.options.max_length);
  sample.truncated = sample.token.size() > most;
  if (sample.truncated) {
    sample.token.resize(most), sample.target.resize(most);
    sample.prompt_length = std::min(sample.prompt_length, static_cast<int32_t>(most));
    made.truncated_samples = 1;
  }
  weigh(weight_of(row_, maker_), sample);
  if (std::all_of(sample.target.begin(), sample.target.end(), [](int32_t label) { return label == kIgnore; }))
    return {};
  to_targets(sample);
  made.group->sample.push_back(std::move(sample));
  return made;
}

}  // namespace fpdist::data
