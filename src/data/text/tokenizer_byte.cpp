#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size());
    for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
    return ids;
  }
  int32_t eos_id() const override { return 256; }
  int32_t vocab_size() const override { return 257; }
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace fpdist::data
