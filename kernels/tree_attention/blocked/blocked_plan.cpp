#include "kernels/tree_attention/blocked/blocked_plan.hpp"

#include <algorithm>
#include <limits>

#include "kernels/tree_attention/mask/pieces.hpp"

namespace fpdist::kernels {
namespace {

// Tasks that a call makes at least, where it has the work: enough for the processors of a rank.
constexpr int64_t kTasks = 8;
// A run of fewer panels is not worth the sum of its own that it needs.
constexpr int64_t kLeastPanels = 8;

// Rows a key head from which on a panel is packed: three tiles of the product and more. Decoding was as fast with 12.
constexpr int64_t kPackedFor = 20;

int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

KeyPanel panel_of(const int32_t* row, const int32_t* end) {
  const auto [least, greatest] = std::minmax_element(end, end + kPanelKeys);
  return {.first_row = row[0],
          .last_row = row[kPanelKeys - 1],
          .least_end = *least,
          .greatest_end = *greatest,
          .is_direct = false};
}

}  // namespace

BlockedPlan::BlockedPlan(const AttentionInputs& in, const AttentionMask& mask, double scale, int64_t word,
                         BlockedCut cut)
    : word_(word), cut_(cut), problem_{} {
  const int64_t queries = in.q.size(0), keys = in.k.size(0), group = in.q.size(1) / in.k.size(1);
  const int32_t *q_row = mask.q_row.const_data_ptr<int32_t>(), *k_row = mask.k_row.const_data_ptr<int32_t>();
  const int32_t* k_end = mask.k_end.const_data_ptr<int32_t>();
  query_row_ = q_row;
  check_rows({q_row, static_cast<size_t>(queries)}, {k_row, static_cast<size_t>(keys)},
             {k_end, static_cast<size_t>(keys)});
  for (int64_t i = 0; i < queries; ++i) q_row_.insert(q_row_.end(), static_cast<size_t>(group), q_row[i]);
  const int64_t panels = rounded_up(keys, kPanelKeys) / kPanelKeys;
  k_row_.assign(k_row, k_row + keys), k_end_.assign(k_end, k_end + keys);
  k_row_.resize(static_cast<size_t>(panels * kPanelKeys), std::numeric_limits<int32_t>::max());
  k_end_.resize(k_row_.size(), 0);
  for (int64_t p = 0; p < panels; ++p) panel_.push_back(panel_of(&k_row_[p * kPanelKeys], &k_end_[p * kPanelKeys]));
  problem_ = {.q = in.q.const_data_ptr(),
              .k = in.k.const_data_ptr(),
              .v = in.v.const_data_ptr(),
              .is_bfloat16 = in.q.scalar_type() == at::kBFloat16,
              .queries = queries,
              .keys = keys,
              .key_heads = in.k.size(1),
              .group = group,
              .head_size = in.q.size(2),
              .padded = rounded_up(in.q.size(2), 16 * word),
              .q_row = q_row_.data(),
              .k_row = k_row_.data(),
              .k_end = k_end_.data(),
              .panel = panel_.data(),
              .panels = panels,
              .scale = static_cast<float>(scale)};
  if (cut == BlockedCut::kByPlace) return;   // one way for all panels
  if (problem_.head_size % 16 != 0) return;  // read by whole vectors
  for (int64_t p = 0; p < panels; ++p) {
    const auto [begin, end] = rows_that_see({p, p + 1});
    panel_[p].is_direct = end - begin < kPackedFor;
  }
}

BlockedProblem BlockedPlan::by_query_head() const {
  BlockedProblem problem = problem_;
  problem.key_heads *= problem.group, problem.group = 1;
  problem.q_row = query_row_;
  problem.k = problem.v = nullptr;
  return problem;
}

std::vector<PanelRun> BlockedPlan::forward_runs() const {
  if (cut_ == BlockedCut::kByPlace) return {{0, problem_.panels}};
  const int64_t panels = problem_.panels, tasks = std::max<int64_t>(1, problem_.key_heads * blocks());
  const int64_t runs = std::clamp<int64_t>(panels / kLeastPanels, 1, (kTasks + tasks - 1) / tasks);
  std::vector<PanelRun> all;
  for (int64_t r = 0; r < runs; ++r) all.emplace_back(panels * r / runs, panels * (r + 1) / runs);
  return all;
}

std::vector<PanelRun> BlockedPlan::backward_runs() const {
  const int64_t panels = problem_.panels;
  const int64_t runs =
      std::clamp<int64_t>(panels / kLeastPanels, 1, (kTasks + problem_.key_heads - 1) / problem_.key_heads);
  std::vector<int64_t> work(static_cast<size_t>(panels) + 1);  // before each panel: rows that may see a key
  for (int64_t p = 0; p < panels; ++p) {
    const auto [begin, end] = rows_that_see({p, p + 1});
    work[p + 1] = work[p] + end - begin;
  }
  std::vector<PanelRun> all;
  int64_t begin = 0;
  for (int64_t r = 1; r <= runs; ++r) {
    const auto until = std::lower_bound(work.begin(), work.end(), work.back() * r / runs);
    const int64_t end = r == runs ? panels : std::max<int64_t>(begin, until - work.begin());
    if (end > begin) all.emplace_back(begin, end);
    begin = end;
  }
  return all;
}

std::pair<int64_t, int64_t> BlockedPlan::rows_that_see(const PanelRun& run) const {
  int32_t end = 0;
  for (int64_t p = run.first; p < run.second; ++p) end = std::max(end, panel_[p].greatest_end);
  if (run.first == run.second) return {0, 0};
  const auto first = std::lower_bound(q_row_.begin(), q_row_.end(), panel_[run.first].first_row);
  const auto last = std::lower_bound(first, q_row_.end(), end);
  return {first - q_row_.begin(), last - q_row_.begin()};
}

}  // namespace fpdist::kernels
