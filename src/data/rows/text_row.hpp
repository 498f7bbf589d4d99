#pragma once
// data: rows of text and conversations, by TRL's rules. The prompt is encoded alone, a conversation's with what opens
// the assistant's turn, and together with each answer; an answer is what follows the tokens that both agree on. So a
// row asks the tokenizer first and is made into samples from the answers.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/data/sample.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "src/data/rows/encoded_row.hpp"
#include "src/data/rows/format.hpp"
#include "src/data/rows/messages.hpp"
#include "src/data/rows/row.hpp"

namespace fpdist::data {

/// A text: what it says, or a conversation.
struct TextOrChat {
  std::string text;
  ChatMessages chat;
};

class TextRow final : public EncodedRow {
 public:
  /// `row`, of `maker`'s `format`, and `maker` outlive it. Throws DataError for a row that mixes text and
  /// conversations.
  TextRow(const Row& row, const RowFormat& format, const GroupMaker& maker);

  /// What has to be rendered for requests(): nothing, or what shows which part of a conversation an assistant wrote.
  std::vector<TextRequest> renderings() const override;
  std::vector<TextRequest> requests(std::span<const RenderedText> rendered) const override;
  MadeGroup make(std::span<const EncodedText> encoded) const override;

 private:
  [[noreturn]] void fail(std::string_view reason) const { fail_at(row_.place, row_.offset(at_), reason); }
  TextOrChat read(Column column);
  void read_completions();
  void split_prompt();
  TextRequest whole(const TextOrChat& answer, bool is_cut) const;
  Sample sample(const EncodedText& encoded, size_t prompt_length) const;
  bool is_dropped(const std::vector<Sample>& samples, size_t prompt_length) const;
  void set_values(Group& group) const;
  void set_flat_value(Sample& sample) const;
  void read_turn_weights();
  bool needs_marks() const { return marks_turns_ || !turn_weight_.empty(); }
  std::vector<double> token_weights(const EncodedText& encoded) const;

  const Row& row_;
  const GroupMaker& maker_;
  const MethodFormats& formats_;
  Column at_;             ///< where an error is that belongs to the whole row
  bool is_chat_ = false;  ///< all of it is
  bool has_prompt_ = false;
  bool marks_turns_ = false;         ///< only what an assistant wrote is learned
  std::vector<double> turn_weight_;  ///< [assistant's turns], or empty: messages say nothing of it
  TextOrChat prompt_;
  std::vector<TextOrChat> answer_;  ///< behind the prompt, or whole texts where there is none
  std::vector<int32_t> is_cut_;     ///< [answers] the sampler cut it
  ChatExtras extras_;
};

}  // namespace fpdist::data
