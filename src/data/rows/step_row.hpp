#pragma once
// data: rows whose completion is in steps, each with a verdict, by the rules of TRL's PRMTrainer: the prompt behind the
// tokenizer's BOS, every step and behind it data.step_separator, each encoded alone; a step's label stands at its last
// token.

#include <span>
#include <vector>

#include "src/data/rows/encoded_row.hpp"
#include "src/data/rows/format.hpp"
#include "src/data/rows/row.hpp"

namespace fpdist::data {

class StepRow final : public EncodedRow {
 public:
  /// Both outlive it. Throws DataError for a row of conversations, for labels that are none or not one a step.
  StepRow(const Row& row, const GroupMaker& maker);
  std::vector<TextRequest> renderings() const override { return {}; }
  std::vector<TextRequest> requests(std::span<const RenderedText> rendered) const override;
  MadeGroup make(std::span<const EncodedText> encoded) const override;

 private:
  const Row& row_;
  const GroupMaker& maker_;
};

/// Throws DataError at the row's labels unless each is 0, 1 or, where `may_ignore`, kIgnore.
void check_classes(const Row& row, const GroupMaker& maker, bool may_ignore);

/// Labels that stand at their tokens become targets, which are predicted from the token before theirs: behind the last
/// token, which may have a label, one more stands, the same again, that nothing is asked of.
void to_targets(Sample& sample);
/// And back: labels at their tokens.
Sample to_labels(Sample sample);

}  // namespace fpdist::data
