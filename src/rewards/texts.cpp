#include "fpdist/rewards/texts.hpp"

#include <utility>
#include <vector>

namespace fpdist::rewards {

void decode_texts(std::span<JudgedText> texts, data::Tokenizer& tokenizer) {
  if (!tokenizer.refusal().empty()) return;
  std::vector<std::vector<int32_t>> ids;
  for (const JudgedText& one : texts) {
    ids.push_back(one.token);
    if (one.finish_reason == "stop") ids.back().pop_back();
  }
  std::vector<data::RenderedText> decoded = tokenizer.decode(ids);
  for (size_t i = 0; i < texts.size(); ++i) texts[i].text = std::move(decoded[i].text);
}

}  // namespace fpdist::rewards
