#include "fpdist/rewards/texts.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace fpdist::rewards {

void decode_texts(std::span<JudgedText> texts, data::Tokenizer& tokenizer, std::span<const std::string> stop) {
  if (!tokenizer.refusal().empty()) return;
  std::vector<std::vector<int32_t>> ids;
  for (const JudgedText& one : texts) {
    ids.push_back(one.token);
    if (one.finish_reason == "stop") ids.back().pop_back();
  }
  std::vector<data::RenderedText> decoded = tokenizer.decode(ids);
  for (size_t i = 0; i < texts.size(); ++i) {
    std::string& text = texts[i].text = std::move(decoded[i].text);
    if (texts[i].finish_reason != "stop_string") continue;
    size_t end = text.size();
    for (const std::string& one : stop) end = std::min(end, text.find(one));
    text.resize(end);
  }
}

}  // namespace fpdist::rewards
