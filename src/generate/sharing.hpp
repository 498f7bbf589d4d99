#pragma once
// generate, private: how much of two prompts is computed once. Their common beginning; where flex_prefill is on and the
// prompts are long, so many whole windows of it that no window's choice of keys is one prompt's affair more than the
// other's. Long prompts share with long ones only, as others see all their keys. Batch invariant: whole panels of keys,
// so that in which panel a row sees a key is its own prompt's affair.

#include <cstdint>
#include <vector>

#include "fpdist/generate/options.hpp"
#include "src/ops/batch_invariant.hpp"

namespace fpdist::generate {

class Sharing {
 public:
  /// One of the two at most.
  explicit Sharing(const FlexPrefillOptions& flex = {}, bool batch_invariant = false)
      : window_(flex.is_on() ? flex.window : 0),
        min_tokens_(flex.min_tokens),
        whole_(batch_invariant ? ops::kInvariantPanel : 1) {}

  /// Whether flex_prefill is for this prompt.
  bool is_long(const std::vector<int32_t>& prompt) const {
    return window_ > 0 && static_cast<int64_t>(prompt.size()) >= min_tokens_;
  }
  int64_t window() const { return window_; }

  /// Rows of two prompts, from depth 0 on. Of prompts in order() neighbours share most.
  int64_t of(const std::vector<int32_t>& a, const std::vector<int32_t>& b) const;
  /// Whether a stands ahead of b.
  bool order(const std::vector<int32_t>& a, const std::vector<int32_t>& b) const;

 private:
  int64_t window_, min_tokens_, whole_;
};

}  // namespace fpdist::generate
