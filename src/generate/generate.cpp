// The way through generate: prompts in order, so that those which share most stand together (here); who of their
// completions is in flight (admission.cpp); their rows (wave.cpp), computed behind kept keys (keys.cpp, by
// model::Transformer::extend), step by step (session.cpp), side by side on the stages of a pipeline
// (lanes.cpp); tokens drawn (sampling.cpp).
#include "fpdist/generate/generate.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/generate/asked.hpp"
#include "src/generate/flex_check.hpp"
#include "src/generate/generate_part.hpp"
#include "src/generate/lanes.hpp"
#include "src/generate/spacing.hpp"
#include "src/ops/batch_invariant.hpp"

namespace fpdist::generate {
namespace {

/// All completions of the prompts `order`, ahead.
std::vector<Decoding> all_ahead(std::span<const std::vector<int32_t>> prompts, std::span<const size_t> order,
                                const SamplingOptions& options, uint64_t first_prompt) {
  std::vector<Decoding> all;
  const auto each = static_cast<uint64_t>(options.num_generations);
  for (size_t p = 0; p < order.size(); ++p)
    for (uint64_t i = 0; i < each; ++i) {
      Decoding& one = all.emplace_back();
      one.prompt = p, one.draw = (first_prompt + order[p]) * each + i;
      if (options.repetition_penalty != 1) one.history = prompts[order[p]];
    }
  return all;
}

/// Tells of prompts as their last completions are done.
class Telling {
 public:
  /// `all`: num_generations completions of each prompt, in order; prompt p of them has the number number[p].
  Telling(std::span<const Decoding> all, std::vector<size_t> number, const Finished& finished)
      : all_(all), number_(std::move(number)), is_told_(number_.size()), finished_(finished) {}

  void look() {
    if (!finished_) return;
    const size_t each = number_.empty() ? 0 : all_.size() / number_.size();
    for (size_t p = 0; p < number_.size(); ++p) {
      const auto completions = all_.subspan(p * each, each);
      const auto is_done = [](const Decoding& one) { return one.standing == Decoding::Standing::kDone; };
      if (is_told_[p] || !std::all_of(completions.begin(), completions.end(), is_done)) continue;
      is_told_[p] = true;
      std::vector<const Completion*> told;
      for (const Decoding& one : completions) told.push_back(&one.completion);
      finished_(number_[p], told);
    }
  }

 private:
  std::span<const Decoding> all_;
  std::vector<size_t> number_;
  std::vector<bool> is_told_;
  const Finished& finished_;
};

/// The model's weights, packed while it generates: steps have few rows.
class PackedWeights {
 public:
  PackedWeights(const Stages& stages, bool by_parts) : stages_(stages) { set(true, by_parts); }
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;
  ~PackedWeights() { set(false, false); }

 private:
  void set(bool packed, bool by_parts) const {
    for (const model::Transformer* run : stages_.runs) run->set_packed(packed, by_parts);
  }
  const Stages& stages_;
};

/// Of each prompt the rows that any other one has as well.
std::vector<int64_t> shared_rows(std::span<const std::vector<int32_t>> prompts, const Sharing& sharing) {
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sharing.order(prompts[a], prompts[b]); });
  std::vector<int64_t> shared(prompts.size(), 0);
  for (size_t i = 1; i < order.size(); ++i) {
    const int64_t rows = sharing.of(prompts[order[i - 1]], prompts[order[i]]);
    for (const size_t one : {order[i - 1], order[i]}) shared[one] = std::max(shared[one], rows);
  }
  return shared;
}

/// Throws where batch_invariant asks for what this machine has not.
void check_invariance(const Stages& stages) {
  const model::TransformerOptions& made = stages.runs.front()->options();
  for (const arch::Layer& layer : stages.runs.front()->config().layers)
    check<ConfigError>(ops::has_invariant_attention(made.device, made.dtype, layer.attention.head_dim),
                       "rollout.batch_invariant is for float32 and bfloat16 on a CPU with AVX2, heads of 16 to 256: "
                       "this model is ",
                       made.dtype, " on ", made.device, ", heads of ", layer.attention.head_dim);
}

/// check_prompts. Collective over pp.
Room checked_room(const Stages& stages, std::span<const std::vector<int32_t>> prompts, const SamplingOptions& options) {
  const model::Transformer& model = *stages.runs.front();
  check_model(model.config(), model.options().device.is_cpu(), options);
  if (options.batch_invariant) check_invariance(stages);
  const int64_t bytes = bytes_per_row(stages);
  check_prompts(model.config(), prompts, options, bytes);
  Room room{.bytes_per_row = bytes, .rows = most_rows(bytes, options)};
  for (const std::vector<int32_t>& prompt : prompts)
    room.most_needed = std::max(room.most_needed, places_alone(prompt, options));
  return room;
}

}  // namespace

GenerationReport& GenerationReport::operator+=(const GenerationReport& other) {
  prompt_tokens += other.prompt_tokens, computed_tokens += other.computed_tokens;
  completion_tokens += other.completion_tokens, paused += other.paused;
  most_rows = std::max(most_rows, other.most_rows), kv_gib = std::max(kv_gib, other.kv_gib);
  truncated_mass += other.truncated_mass, tail_seconds += other.tail_seconds;
  prefill_seconds += other.prefill_seconds, decode_seconds += other.decode_seconds;
  flex += other.flex;
  kept_keys += other.kept_keys, all_keys += other.all_keys, chosen_prompts += other.chosen_prompts;
  dropped.resize(std::max(dropped.size(), other.dropped.size()));
  for (size_t layer = 0; layer < other.dropped.size(); ++layer) dropped[layer] += other.dropped[layer];
  return *this;
}

FlexReport& FlexReport::operator+=(const FlexReport& other) {
  kept_blocks += other.kept_blocks, all_blocks += other.all_blocks;
  checked_prompts += other.checked_prompts, checked_tokens += other.checked_tokens;
  sum_difference += other.sum_difference;
  greatest_difference = std::max(greatest_difference, other.greatest_difference);
  all_seconds += other.all_seconds, kept_seconds += other.kept_seconds, search_seconds += other.search_seconds;
  return *this;
}

const char* name_of(FinishReason reason) {
  constexpr std::array kNames{"stop", "stop_string", "length"};
  return kNames[static_cast<size_t>(reason)];
}

int64_t check_prompts(const Stages& stages, std::span<const std::vector<int32_t>> prompts,
                      const SamplingOptions& options) {
  return checked_room(stages, prompts, options).rows;
}

std::vector<std::vector<Completion>> generate(const Stages& stages, std::span<const std::vector<int32_t>> prompts,
                                              const SamplingOptions& options, uint64_t first_prompt,
                                              GenerationReport* report, const Progress& progress) {
  return generate_part(stages, prompts, 0, prompts.size(), options, first_prompt, report, progress);
}

std::vector<std::vector<Completion>> generate_part(const Stages& stages,
                                                   std::span<const std::vector<int32_t>> all_prompts, size_t begin,
                                                   size_t end, const SamplingOptions& options, uint64_t first_prompt,
                                                   GenerationReport* report, const Progress& progress,
                                                   const Finished& finished) {
  const auto prompts = all_prompts.subspan(begin, end - begin);
  const Room room = checked_room(stages, prompts, options);
  const at::NoGradGuard no_grad;
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const Sharing sharing(options.flex_prefill, options.batch_invariant);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sharing.order(prompts[a], prompts[b]); });
  std::vector<const std::vector<int32_t>*> ordered;
  GenerationReport total;
  const FlexReport checked = check_flex_prefill(stages, prompts, options.flex_prefill);
  for (const size_t at : order) {
    ordered.push_back(&prompts[at]);
    total.prompt_tokens += static_cast<int64_t>(prompts[at].size());
  }
  std::vector<Decoding> decoding = all_ahead(prompts, order, options, first_prompt);
  const PackedWeights packed(stages, /*by_parts=*/options.batch_invariant);
  std::vector<int64_t> shared;
  if (options.prefix_kv.is_on()) {
    const std::vector<int64_t> of_all = shared_rows(all_prompts, sharing);
    for (const size_t at : order) shared.push_back(of_all[begin + at]);
    total.dropped.resize(stages.runs.front()->config().layers.size());
  }
  Lanes lanes(stages, ordered, decoding, options, room, shared);
  std::vector<size_t> number;
  for (const size_t at : order) number.push_back(begin + at);
  Telling telling(decoding, std::move(number), finished);
  for (bool goes_on = true; goes_on;) {
    goes_on = lanes.step(total);
    telling.look();
    if (!progress) continue;
    int64_t done = 0, tokens = 0;
    for (const Decoding& one : decoding) done += one.standing == Decoding::Standing::kDone, tokens += one.tokens();
    progress(done, tokens);
  }
  std::vector<std::vector<Completion>> all(prompts.size());
  for (Decoding& one : decoding) {
    total.completion_tokens += one.tokens();
    all[order[one.prompt]].push_back(std::move(one.completion));
  }
  total.flex += checked;
  total.kv_gib = static_cast<double>(total.most_rows * room.bytes_per_row) * 0x1p-30;
  if (report) *report = total;
  return all;
}

}  // namespace fpdist::generate
