#include "src/generate/stop_texts.hpp"

#include <algorithm>

namespace fpdist::generate {

StopTexts::StopTexts(const SamplingOptions& options) : texts_(options.stop), bytes_(options.token_bytes) {
  for (const std::string& text : texts_) longest_ = std::max(longest_, text.size());
}

bool StopTexts::complete(std::string& tail, int32_t token) const {
  const auto at = static_cast<size_t>(token);
  if (texts_.empty() || at >= bytes_->size()) return false;
  tail += (*bytes_)[at];
  if (std::any_of(texts_.begin(), texts_.end(),
                  [&](const std::string& text) { return tail.find(text) != std::string::npos; }))
    return true;
  if (tail.size() >= longest_) tail.erase(0, tail.size() - (longest_ - 1));
  return false;
}

}  // namespace fpdist::generate
