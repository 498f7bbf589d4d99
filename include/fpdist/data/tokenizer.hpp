#pragma once
// data: text to token ids. The seam for later tokenizers: readers see this interface only.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fpdist::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  virtual int32_t eos_id() const = 0;
  virtual int32_t vocab_size() const = 0;
  /// Why no text may be read with it; empty: it may. Whoever reads a row says so with the row's place.
  virtual std::string refusal() const { return {}; }
};

/// One token a byte (ids 0..255), end of sequence 256, vocabulary 257.
std::unique_ptr<Tokenizer> make_byte_tokenizer();

/// What text rows for this model are read with. `directory`: a Hugging Face directory, or empty for a preset. Bytes
/// where the model brings no tokenizer; else one that refuses every text, naming the file.
std::unique_ptr<Tokenizer> make_model_tokenizer(const std::string& directory);

}  // namespace fpdist::data
