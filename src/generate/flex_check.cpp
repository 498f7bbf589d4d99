#include "src/generate/flex_check.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"
#include "src/generate/keys.hpp"

namespace fpdist::generate {
namespace {

constexpr int64_t kLogitRows = 256;  // rows whose logits lie in memory together

/// Log-probs of the tokens behind the rows [begin, begin + hidden rows) of the prompt, from there on in `all`.
void take_logprobs(const Keys& keys, const at::Tensor& hidden, const std::vector<int32_t>& prompt, int64_t begin,
                   at::Tensor& all) {
  for (int64_t at = 0; at < hidden.size(0); at += kLogitRows) {
    const int64_t first = begin + at;
    const int64_t rows = std::min({kLogitRows, hidden.size(0) - at, static_cast<int64_t>(prompt.size()) - 1 - first});
    if (rows <= 0) return;
    const at::Tensor next = at::tensor(at::ArrayRef<int32_t>(prompt).slice(index(first + 1), index(rows)), at::kLong);
    const at::Tensor logp = at::log_softmax(keys.logits(hidden.narrow(0, at, rows)).to(at::kCPU, at::kDouble), 1);
    all.narrow(0, first, rows).copy_(logp.gather(1, next.unsqueeze(1)).squeeze(1));
  }
}

/// [tokens - 1] float64 on every rank; `seconds`: of the model without its head.
at::Tensor logprobs(const Stages& stages, const std::vector<int32_t>& prompt, const FlexPrefillOptions& options,
                    bool sees_all, FlexReport& report) {
  const Sharing sharing(options);
  const std::vector<const std::vector<int32_t>*> alone{&prompt};
  const Wave wave = make_wave(alone, {}, sharing);
  const std::vector<PromptWindow> windows = windows_of(wave, alone, sharing, std::vector<bool>(prompt.size(), true));
  Keys keys(stages, SamplingOptions{.flex_prefill = options});
  keys.move_to(wave, {});
  at::Tensor all = at::zeros({static_cast<int64_t>(prompt.size()) - 1}, at::kDouble);
  double& seconds = sees_all ? report.all_seconds : report.kept_seconds;
  for (const PromptWindow& window : windows) {
    QueryRows rows;
    for (int32_t row = window.place; row < window.end(); ++row) rows.add(row, prompt[index(row)], row);
    if (!sees_all) rows.window = {&window, 1};
    const auto start = Clock::now();
    const at::Tensor hidden = keys.compute(rows);
    seconds += seconds_since(start);
    if (keys.has_logits()) take_logprobs(keys, hidden, prompt, window.place, all);
  }
  report.search_seconds += keys.take_area().search_seconds;
  keys.begin_sharing(all);
  keys.end_sharing();
  return all;
}

}  // namespace

FlexReport check_flex_prefill(const Stages& stages, std::span<const std::vector<int32_t>> prompts,
                              const FlexPrefillOptions& options) {
  FlexReport report;
  const Sharing sharing(options);
  for (size_t p = 0; p < prompts.size() && report.checked_prompts < options.check_prompts; ++p) {
    if (!sharing.is_long(prompts[p])) continue;
    const at::Tensor with_all = logprobs(stages, prompts[p], options, true, report);
    const at::Tensor difference = (with_all - logprobs(stages, prompts[p], options, false, report)).abs();
    ++report.checked_prompts, report.checked_tokens += difference.numel();
    report.sum_difference += difference.sum().item<double>();
    if (difference.numel() > 0)
      report.greatest_difference = std::max(report.greatest_difference, difference.max().item<double>());
  }
  check<ConfigError>(report.mean_difference() <= options.max_error, "flex_prefill changes log-probs of ",
                     report.checked_tokens, " tokens by ", report.mean_difference(),
                     " nats in the mean, and flex_prefill.max_error is ", options.max_error,
                     ": raise flex_prefill.gamma (", options.gamma, ") or flex_prefill.min_budget (",
                     options.min_budget, "), or set flex_prefill.gamma: 0");
  return report;
}

}  // namespace fpdist::generate
