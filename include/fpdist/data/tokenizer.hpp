#pragma once
// data: text to token ids. The seam for later tokenizers: readers see this interface only.

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace fpdist::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  virtual int32_t eos_id() const = 0;
  virtual int32_t vocab_size() const = 0;
};

/// One token a byte (ids 0..255), end of sequence 256, vocabulary 257.
std::unique_ptr<Tokenizer> make_byte_tokenizer();

}  // namespace fpdist::data
