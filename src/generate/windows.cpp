#include "src/generate/windows.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <utility>

#include "src/core/index.hpp"

namespace fpdist::generate {

std::vector<PromptWindow> windows_of(const Wave& wave, std::span<const std::vector<int32_t>* const> prompts,
                                     const Sharing& sharing, const std::vector<bool>& is_asked) {
  std::map<int32_t, PromptWindow> found;  // by place: prompts that share have the same ones
  for (size_t p = 0; p < prompts.size(); ++p) {
    if (!sharing.is_long(*prompts[p])) continue;
    const std::vector<int32_t> path = path_of(wave, p);
    std::vector<int32_t> places;
    for (const int32_t row : path) places.push_back(wave.row[index(row)]);
    for (size_t begin = 0, end = 0; begin < path.size(); begin = end) {
      end = std::min(path.size(), begin + index(sharing.window()));
      const auto is_ahead = [&](int32_t row) { return is_asked[index(row)]; };
      if (!std::all_of(path.begin() + static_cast<int64_t>(begin), path.begin() + static_cast<int64_t>(end), is_ahead))
        continue;
      PromptWindow& window = found[places[begin]];
      window = {.place = places[begin],
                .rows = static_cast<int32_t>(end - begin),
                .ends_prompt = end == path.size(),
                .path = {places.begin(), places.begin() + static_cast<int64_t>(end)}};
    }
  }
  std::vector<PromptWindow> all;
  for (auto& [place, window] : found) all.push_back(std::move(window));
  return all;
}

size_t cut_between(std::span<const PromptWindow> windows, std::span<const int32_t> places, size_t begin, size_t most) {
  const size_t end = begin + std::min(most, places.size() - begin);
  if (end == places.size() || end == begin) return end;
  const auto after = std::upper_bound(windows.begin(), windows.end(), places[end],
                                      [](int32_t place, const PromptWindow& one) { return place < one.place; });
  if (after == windows.begin()) return end;
  const PromptWindow& cut = *std::prev(after);
  if (places[end] == cut.place || places[end] >= cut.end()) return end;
  const auto first = index(std::lower_bound(places.begin(), places.end(), cut.place) - places.begin());
  return first > begin ? first : first + index(cut.rows);
}

std::shared_ptr<model::SparseRows> sparse_rows(std::span<const PromptWindow> windows, std::span<const int32_t> places,
                                               const at::Tensor& key_row, const at::Tensor& key_end,
                                               const FlexPrefillOptions& options) {
  if (windows.empty()) return nullptr;
  auto rows = std::make_shared<model::SparseRows>();
  rows->search = {.gamma = options.gamma,
                  .tau = options.tau,
                  .min_budget = options.min_budget,
                  .max_budget = options.max_budget,
                  .block = options.block_size};
  std::vector<int64_t> whole;
  size_t next = 0;
  const auto whole_until = [&](size_t end) {
    for (; next < end; ++next) whole.push_back(static_cast<int64_t>(next));
  };
  for (const PromptWindow& window : windows) {
    const auto begin = std::lower_bound(places.begin(), places.end(), window.place) - places.begin();
    whole_until(index(begin));
    rows->window.push_back({.begin = begin,
                            .rows = window.rows,
                            .path = at::tensor(at::ArrayRef<int32_t>(window.path), at::kInt).to(at::kLong)});
    next = index(begin + window.rows) - size_t{window.ends_prompt};
  }
  whole_until(places.size());
  rows->whole = at::tensor(at::ArrayRef<int64_t>(whole), at::kLong);
  const at::Tensor all = at::tensor(at::ArrayRef<int32_t>(places.data(), places.size()), at::kInt);
  rows->seen = {all.index_select(0, rows->whole), key_row, key_end};
  return rows;
}

}  // namespace fpdist::generate
