#include "src/data/rows/remarks.hpp"

#include <algorithm>

#include "fpdist/core/error.hpp"
#include "src/data/rows/data_files.hpp"

namespace fpdist::data {

void OddRows::RowCount::note(const LinePlace& place) {
  if (++rows == 1) first = row_name(place.file, place.line);
}

void OddRows::see(const MadeGroup& made, RowGroup kind, const LinePlace& place) {
  const std::vector<Sample>& sample = made.group->sample;
  if (kind == RowGroup::kPair && sample[0].token == sample[1].token) same_.note(place);
  if (made.has_empty_answer) empty_.note(place);
}

void OddRows::tell(LogSink& log) const {
  if (same_.rows > 0)
    log.warning(text("chosen and rejected are the same tokens in ", same_.rows, " rows, ", same_.first,
                     " the first: such a pair teaches nothing; leave it out"));
  if (empty_.rows > 0)
    log.warning(text("an answer is empty in ", empty_.rows, " rows, ", empty_.first,
                     " the first: at most its end of sequence is learned; leave the row out if that is not meant"));
}

void EvenRewards::see(const Group& group) {
  const auto& reward = group.sample.front().reward;
  if (!reward) return;
  ++groups_;
  even_ +=
      std::all_of(group.sample.begin(), group.sample.end(), [&](const Sample& one) { return one.reward == reward; });
}

void EvenRewards::tell(LogSink& log) const {
  if (groups_ == 0 || even_ < groups_) return;
  log.warning(text("the rewards of a group are equal in each of the ", groups_,
                   " groups: every advantage is 0, so that nothing but the reference's term (loss.beta) is learned"));
}

}  // namespace fpdist::data
