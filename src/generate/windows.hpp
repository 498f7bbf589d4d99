#pragma once
// generate, private: rows of prompts that flex_prefill looks at together.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/generate/sharing.hpp"
#include "src/generate/wave.hpp"
#include "src/model/sparse_rows.hpp"

namespace fpdist::generate {

/// Rows of a prompt at depths [i window, (i + 1) window), fewer where it ends; they stand side by side.
struct PromptWindow {
  int32_t place = 0;  ///< of the first one
  int32_t rows = 0;
  bool ends_prompt = false;   ///< its last row is a prompt's last one, which sees all its keys as rows decoded later do
  std::vector<int32_t> path;  ///< places of all keys above the last row and of its own, by depth
  int32_t end() const { return place + rows; }
};

/// Of the wave's long prompts, those all of whose rows `is_asked` [forest rows] asks for; by ascending place.
std::vector<PromptWindow> windows_of(const Wave& wave, std::span<const std::vector<int32_t>* const> prompts,
                                     const Sharing& sharing, const std::vector<bool>& is_asked);

/// Where to cut `places` (ascending) so that [begin, result) is at most `most` of them and no window in parts: at least
/// one window, or place.
size_t cut_between(std::span<const PromptWindow> windows, std::span<const int32_t> places, size_t begin, size_t most);

/// For a call that computes the rows at `places` (ascending), all of these windows among them, against keys whose
/// subtrees end at `key_end`. Null without windows.
std::shared_ptr<model::SparseRows> sparse_rows(std::span<const PromptWindow> windows, std::span<const int32_t> places,
                                               const at::Tensor& key_row, const at::Tensor& key_end,
                                               const FlexPrefillOptions& options);

}  // namespace fpdist::generate
