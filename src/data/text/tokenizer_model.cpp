// Which tokenizer a model asks for, until its own can be read.

#include <array>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {
namespace {

/// Files by which transformers finds a tokenizer.
constexpr std::array kTokenizerFiles{"tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json",
                                     "tokenizer_config.json"};

class RefusingTokenizer final : public Tokenizer {
 public:
  explicit RefusingTokenizer(std::string file) : file_(std::move(file)) {}
  std::vector<int32_t> encode(std::string_view) const override { throw DataError(refusal()); }
  int32_t eos_id() const override { throw DataError(refusal()); }
  int32_t vocab_size() const override { throw DataError(refusal()); }
  std::string refusal() const override {
    return text("the row is text, and the model has a tokenizer of its own, ", file_,
                ", which is not read yet: byte by byte the text would be other words to this model; give token ids "
                "(input_ids, prompt_ids, ...) made with that tokenizer");
  }

 private:
  std::string file_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_model_tokenizer(const std::string& directory) {
  std::error_code ignored;
  for (const char* name : kTokenizerFiles) {
    const std::filesystem::path file = std::filesystem::path(directory) / name;
    if (!directory.empty() && std::filesystem::exists(file, ignored))
      return std::make_unique<RefusingTokenizer>(file.string());
  }
  return make_byte_tokenizer();
}

}  // namespace fpdist::data
