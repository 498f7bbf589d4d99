#pragma once
// trainer (private): the pad token of exported reward models. Transformers reads a score at the last token that is not
// config.json's pad_token_id, and refuses batches without one: padding must be a token that no scored sample ends in.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/sample.hpp"

namespace fpdist::trainer {

/// Tokens of a vocabulary: which of them samples end in, and which they hold at all.
class SeenTokens {
 public:
  explicit SeenTokens(int64_t vocabulary)
      : ends_(static_cast<size_t>(vocabulary)), holds_(static_cast<size_t>(vocabulary)) {}
  void see(std::span<const data::Group> groups);
  bool ends_in(int64_t token) const { return ends_.at(static_cast<size_t>(token)); }
  /// The last token that no sample holds; without one, the last that none ends in.
  std::optional<int64_t> spare() const;
  /// A letter a token: e where samples end in it, h where they hold it, - where none does.
  std::string to_text() const;
  /// As the one was whose text this is. Throws ModelFileError, naming `where`, for a text of another vocabulary.
  void set_text(const std::string& letters, const std::string& where);

 private:
  std::vector<bool> ends_, holds_;
};

/// The pad_token_id of the tokenizer that lies in a Hugging Face directory ("": none), as tokenizer_config.json has it;
/// none where it says nothing or cannot be understood.
std::optional<int64_t> tokenizers_pad_token(const std::string& directory);

/// The pad_token_id of a reward model that was trained on samples with the tokens `seen`: the config.json's own, the
/// tokenizer's, or a spare one. `log` hears why where it is not the config.json's.
std::optional<int64_t> pad_for_scores(const arch::Model& model, const SeenTokens& seen, const std::string& directory,
                                      LogSink& log);

}  // namespace fpdist::trainer
