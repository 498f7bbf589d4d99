// Files of rows: the first byte chooses the method and what is done with it, the rest is the file. What is accepted is
// whole.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/data/reader.hpp"
#include "tests/fuzz/memory_file.hpp"

namespace fpdist::data {
namespace {

/// A byte a token, conversations too: their JSON, of which the assistant wrote every second run of three.
class Tokens final : public Tokenizer {
 public:
  explicit Tokens(bool marks)
      : facts_{.vocab_size = 257, .bos_id = 1, .eos_id = 256, .has_template = true, .marks_generation = marks} {}
  const TokenizerFacts& facts() override { return facts_; }
  std::vector<EncodedText> encode(std::span<const TextRequest> requests) override {
    std::vector<EncodedText> all;
    for (const TextRequest& request : requests) {
      EncodedText& one = all.emplace_back();
      for (const char byte : request.text) {
        if (request.mask || !request.span.empty()) one.is_marked.push_back(one.id.size() / 3 % 2);
        one.id.push_back(static_cast<unsigned char>(byte));
      }
      if (request.end) one.id.push_back(256);
    }
    return all;
  }
  std::vector<RenderedText> render(std::span<const TextRequest> chats) override {
    std::vector<RenderedText> all;
    for (const TextRequest& chat : chats) all.push_back({.text = chat.text, .error = {}});
    return all;
  }
  std::vector<RenderedText> decode(std::span<const std::vector<int32_t>> ids) override {
    return std::vector<RenderedText>(ids.size());
  }
  std::vector<std::string> token_bytes() override { return {}; }

 private:
  TokenizerFacts facts_;
};

void require(bool good) {
  if (!good) std::abort();
}

void check(const Dataset& dataset) {
  require(dataset.place.size() == dataset.group.size() && !dataset.group.empty());
  for (size_t g = 0; g < dataset.group.size(); ++g) {
    require(dataset.group[g].id == static_cast<int64_t>(g) && !dataset.group[g].sample.empty());
    for (const Sample& sample : dataset.group[g].sample) {
      const size_t length = sample.token.size();
      require(sample.target.size() == length && static_cast<size_t>(sample.prompt_length) <= length);
      for (const std::vector<double>* values : {&sample.old_logp, &sample.ref_logp, &sample.weight})
        require(values->empty() || values->size() == length);
      for (const int32_t id : sample.token) require(id >= 0);
      for (const int32_t id : sample.target) require(id >= 0 || id == kIgnore);
    }
  }
}

}  // namespace
}  // namespace fpdist::data

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fpdist;
  using namespace fpdist::data;
  static const test::MemoryFile file;
  if (size == 0) return 0;
  const unsigned choice = data[0];
  file.hold({reinterpret_cast<const char*>(data + 1), size - 1});
  DataOptions options;
  options.path = {file.path()};
  options.max_length = (choice & 4) != 0 ? 9 : 1000;
  options.truncation_mode = (choice & 8) != 0 ? Truncation::kKeepEnd : Truncation::kKeepStart;
  options.on_error = (choice & 16) != 0 ? OnError::kSkip : OnError::kStop;
  options.group_by = (choice & 32) != 0 ? GroupBy::kPrompt : GroupBy::kRow;
  options.train_on_all = (choice & 64) != 0;
  if ((choice & 96) == 96) options.columns = {{"prompt", "instruction + input"}, {"completion", "output"}};
  Tokens tokenizer((choice & 128) != 0);
  NullLog log;
  try {
    // Pairs are grouped by nothing: where scored ones would be, rows are verdicts.
    const Method method = (choice & 35) == 34 ? Method::kKto : static_cast<Method>(choice & 3);
    check(read_dataset(options, method, tokenizer, log));
  } catch (const DataError&) {
  }
  return 0;
}
