// Which tokenizer text is read with: a row's text is never read by anything but the model's own tokenizer, or refused.

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {
namespace {

/// Files that hold a vocabulary we can read.
constexpr std::array kVocabularies{"tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"};

class RefusingTokenizer final : public Tokenizer {
 public:
  explicit RefusingTokenizer(std::string refusal) : refusal_(std::move(refusal)) {}
  const TokenizerFacts& facts() override { throw DataError(refusal_); }
  std::vector<EncodedText> encode(std::span<const TextRequest>) override { throw DataError(refusal_); }
  std::vector<RenderedText> render(std::span<const TextRequest>) override { throw DataError(refusal_); }
  std::vector<RenderedText> decode(std::span<const std::vector<int32_t>>) override { throw DataError(refusal_); }
  std::vector<std::string> token_bytes() override { throw DataError(refusal_); }
  std::string refusal() const override { return refusal_; }

 private:
  std::string refusal_;
};

bool has_vocabulary(const std::filesystem::path& directory) {
  return std::any_of(kVocabularies.begin(), kVocabularies.end(), [&](const char* name) {
    std::error_code ignored;
    return std::filesystem::exists(directory / name, ignored);
  });
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& choice, TextWorkerOptions model) {
  if (choice == "bytes" || (choice.empty() && model.directory.empty())) return make_byte_tokenizer();
  if (!choice.empty()) model.directory = choice;
  if (has_vocabulary(model.directory)) return make_worker_tokenizer(std::move(model));
  return std::make_unique<RefusingTokenizer>(
      text("the row is text, and ", choice.empty() ? "the model directory " : "data.tokenizer ", model.directory,
           " has no tokenizer (tokenizer.json or tokenizer.model): copy the tokenizer's files there, name their "
           "directory in data.tokenizer, or give token ids (input_ids, prompt_ids, ...)"));
}

}  // namespace fpdist::data
