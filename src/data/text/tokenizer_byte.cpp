#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {
namespace {

constexpr int32_t kEnd = 256;
const char kNoTemplate[] =
    "the row is a conversation, and bytes have no chat template: name a directory with a tokenizer and a chat template "
    "in data.tokenizer, or give text rows";

class ByteTokenizer final : public Tokenizer {
 public:
  const TokenizerFacts& facts() override { return facts_; }

  std::vector<EncodedText> encode(std::span<const TextRequest> requests) override {
    std::vector<EncodedText> all;
    for (const TextRequest& request : requests) {
      EncodedText& one = all.emplace_back();
      if (request.kind == TextRequest::Kind::kChat) {
        one.error = kNoTemplate;
        continue;
      }
      for (const char byte : request.text) one.id.push_back(static_cast<unsigned char>(byte));
      if (request.end) one.id.push_back(kEnd);
    }
    return all;
  }

  std::vector<RenderedText> render(std::span<const TextRequest> chats) override {
    return std::vector<RenderedText>(chats.size(), {"", kNoTemplate});
  }

  std::vector<RenderedText> decode(std::span<const std::vector<int32_t>> ids) override {
    std::vector<RenderedText> all;
    for (const std::vector<int32_t>& one : ids) {
      std::string& text = all.emplace_back().text;
      for (const int32_t id : one)
        if (id >= 0 && id < kEnd) text += static_cast<char>(id);
    }
    return all;
  }

  std::vector<std::string> token_bytes() override {
    std::vector<std::string> all(kEnd + 1);
    for (int32_t id = 0; id < kEnd; ++id) all[static_cast<size_t>(id)] = static_cast<char>(id);
    return all;
  }

 private:
  TokenizerFacts facts_{.vocab_size = kEnd + 1, .eos_id = kEnd};
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace fpdist::data
