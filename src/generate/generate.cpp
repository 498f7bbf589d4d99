// The way through generate: prompts in waves (here), a wave's rows (wave.cpp), its prompts and then one token of each
// completion after the other computed behind kept keys (here, by model::Transformer::extend), tokens drawn
// (sampling.cpp).
#include "fpdist/generate/generate.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/model/kept_keys.hpp"
#include "fpdist/ops/attention_calls.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"
#include "src/generate/sampling.hpp"
#include "src/generate/wave.hpp"

namespace fpdist::generate {
namespace {

/// Rows that one call computes.
struct QueryRows {
  std::vector<int32_t> place, token, depth;  ///< ascending places
};

at::Tensor int64s(const std::vector<int32_t>& numbers, at::Device device) {
  return at::tensor(at::ArrayRef<int32_t>(numbers), at::kInt).to(at::kLong).to(device);
}

at::Tensor int32s(const std::vector<int32_t>& numbers) { return at::tensor(at::ArrayRef<int32_t>(numbers), at::kInt); }

/// The keys of a wave, and rows computed behind them.
class Keys {
 public:
  Keys(const model::Transformer& model, const Wave& wave)
      : model_(model), wave_(wave), key_row_(at::arange(wave.places(), at::kInt)), key_end_(int32s(wave.end)) {
    const auto options = at::TensorOptions(model.options().dtype).device(model.options().device);
    for (const arch::Layer& layer : model.config().layers) {
      const std::vector<int64_t> shape{wave.places(), layer.attention.kv_heads, layer.attention.head_dim};
      kept_.keys.push_back(at::zeros(shape, options));
      kept_.values.push_back(at::zeros(shape, options));
    }
  }

  /// [rows,H]; `rows` without padding.
  at::Tensor compute(QueryRows rows) {
    const auto count = static_cast<int64_t>(rows.place.size());
    for (int64_t i = 0; (count + i) % kPadding != 0; ++i) {
      rows.place.push_back(wave_.padding(i));
      rows.token.push_back(0), rows.depth.push_back(0);
    }
    const at::Device device = model_.options().device;
    kept_.row = int64s(rows.place, device);
    parallel::RowsHere here{.token = int64s(rows.token, device),
                            .depth = int64s(rows.depth, device),
                            .shard_rows = {static_cast<int64_t>(rows.place.size())},
                            .mask = {int32s(rows.place), key_row_, key_end_},
                            .calls = {},
                            .exchange = {}};
    here.calls = ops::prepare_attention(here.mask, device);
    return model_.extend(here, kept_).narrow(0, 0, count);
  }

  /// Logits of these of `hidden`'s rows, float32 on the CPU.
  at::Tensor logits(const at::Tensor& hidden) const {
    return model_.logits(hidden).to(at::kCPU, at::kFloat).contiguous();
  }

 private:
  const model::Transformer& model_;
  const Wave& wave_;
  const at::Tensor key_row_, key_end_;
  model::KeptKeys kept_;
};

/// One completion under way.
struct Decoding {
  size_t prompt = 0;  ///< of the wave
  uint64_t draw = 0;
  int32_t leaf = 0;
  std::vector<int32_t> history;  ///< prompt and completion, for the penalty; empty without
  Completion completion;
  bool is_done = false;
};

class WaveRun {
 public:
  WaveRun(const model::Transformer& model, const SamplingOptions& options,
          std::span<const std::vector<int32_t>* const> prompts, std::span<const uint64_t> numbers)
      : options_(options),
        prompts_(prompts),
        wave_(make_wave(prompts, options.num_generations, options.max_completion_length)),
        keys_(model, wave_) {
    for (const int32_t at : wave_.order) {
      const size_t prompt = index(at) / index(options.num_generations);
      const uint64_t of_prompt = static_cast<uint64_t>(at) % static_cast<uint64_t>(options.num_generations);
      decoding_.push_back({.prompt = prompt,
                           .draw = numbers[prompt] * static_cast<uint64_t>(options.num_generations) + of_prompt,
                           .leaf = wave_.leaf[index(at)],
                           .history = options.repetition_penalty == 1 ? std::vector<int32_t>{} : *prompts[prompt],
                           .completion = {}});
    }
  }

  /// The forest, and the first token of every completion.
  void prefill() {
    const int64_t rows = wave_.forest.rows();
    std::vector<at::Tensor> last(prompts_.size());
    for (int64_t begin = 0; begin < rows; begin += options_.max_num_batched_tokens) {
      const int64_t end = std::min(rows, begin + options_.max_num_batched_tokens);
      QueryRows part;
      for (int64_t r = begin; r < end; ++r) {
        part.place.push_back(wave_.row[index(r)]);
        part.token.push_back(wave_.forest.token[index(r)]);
        part.depth.push_back(wave_.forest.depth[index(r)]);
      }
      const at::Tensor hidden = keys_.compute(std::move(part));
      for (size_t p = 0; p < prompts_.size(); ++p)
        if (wave_.last_row[p] >= begin && wave_.last_row[p] < end) last[p] = hidden[wave_.last_row[p] - begin];
    }
    const at::Tensor logits = keys_.logits(at::stack(last));
    draw_all(logits, [](const Decoding& one) { return static_cast<int64_t>(one.prompt); });
  }

  /// One token of every completion that is not done. False: all are.
  bool decode() {
    QueryRows rows;
    std::vector<int64_t> row_of(decoding_.size(), -1);
    for (size_t i = 0; i < decoding_.size(); ++i) {
      const Decoding& one = decoding_[i];
      if (one.is_done) continue;
      const auto at = static_cast<int32_t>(one.completion.token.size()) - 1;
      row_of[i] = static_cast<int64_t>(rows.place.size());
      rows.place.push_back(one.leaf + at);
      rows.token.push_back(one.completion.token.back());
      rows.depth.push_back(static_cast<int32_t>(prompts_[one.prompt]->size()) + at);
    }
    if (rows.place.empty()) return false;
    const at::Tensor logits = keys_.logits(keys_.compute(std::move(rows)));
    draw_all(logits, [&](const Decoding& one) { return row_of[static_cast<size_t>(&one - decoding_.data())]; });
    return true;
  }

  std::vector<Decoding>& decoding() { return decoding_; }
  const Wave& wave() const { return wave_; }

 private:
  template <typename RowOf>
  void draw_all(const at::Tensor& logits, RowOf row_of) {
    const auto vocabulary = index(logits.size(1));
    const float* const all = logits.const_data_ptr<float>();
    at::parallel_for(0, static_cast<int64_t>(decoding_.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        Decoding& one = decoding_[index(i)];
        if (one.is_done) continue;
        take(one, {all + index(row_of(one)) * vocabulary, vocabulary});
      }
    });
  }

  void take(Decoding& one, std::span<const float> logits) const {
    Completion& completion = one.completion;
    const double u = share_of(options_.seed, one.draw, completion.token.size());
    const Drawn drawn = draw_token(logits, one.history, options_, u);
    completion.token.push_back(drawn.token);
    completion.logp.push_back(drawn.logp);
    completion.entropy.push_back(drawn.entropy);
    if (options_.repetition_penalty != 1) one.history.push_back(drawn.token);
    const auto& stops = options_.stop_token_ids;
    const bool is_stop = std::find(stops.begin(), stops.end(), drawn.token) != stops.end();
    if (is_stop) completion.finish_reason = FinishReason::kStop;
    one.is_done = is_stop || static_cast<int64_t>(completion.token.size()) == options_.max_completion_length;
  }

  const SamplingOptions& options_;
  const std::span<const std::vector<int32_t>* const> prompts_;
  const Wave wave_;
  Keys keys_;
  std::vector<Decoding> decoding_;  ///< by ascending leaf
};

}  // namespace

GenerationReport& GenerationReport::operator+=(const GenerationReport& other) {
  prompt_tokens += other.prompt_tokens, computed_tokens += other.computed_tokens;
  completion_tokens += other.completion_tokens;
  most_rows = std::max(most_rows, other.most_rows);
  prefill_seconds += other.prefill_seconds, decode_seconds += other.decode_seconds;
  return *this;
}

const char* name_of(FinishReason reason) { return reason == FinishReason::kStop ? "stop" : "length"; }

void check_prompts(const arch::Model& model, std::span<const std::vector<int32_t>> prompts,
                   const SamplingOptions& options) {
  check_options(options);
  for (const int32_t stop : options.stop_token_ids)
    check<ConfigError>(stop >= 0 && stop < model.vocab_size, "rollout.stop_token_ids: ", stop,
                       " is no token of a vocabulary of ", model.vocab_size);
  for (size_t p = 0; p < prompts.size(); ++p) {
    check<DataError>(!prompts[p].empty(), "prompt ", p + 1, " is empty: a completion needs a token to follow");
    for (const int32_t token : prompts[p])
      check<DataError>(token >= 0 && token < model.vocab_size, "prompt ", p + 1, ": ", token,
                       " is no token of a vocabulary of ", model.vocab_size);
    const int64_t most = static_cast<int64_t>(prompts[p].size()) + options.max_completion_length;
    check<DataError>(most <= model.max_position_embeddings, "prompt ", p + 1, " has ", prompts[p].size(),
                     " tokens; with rollout.max_completion_length ", options.max_completion_length,
                     " more it goes beyond the model's max_position_embeddings ", model.max_position_embeddings);
  }
}

std::vector<std::vector<Completion>> generate(const model::Transformer& model,
                                              std::span<const std::vector<int32_t>> prompts,
                                              const SamplingOptions& options, uint64_t first_prompt,
                                              GenerationReport* report, const Progress& progress) {
  check_prompts(model.config(), prompts, options);
  const at::NoGradGuard no_grad;
  // Prompts that share most stand together.
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return prompts[a] < prompts[b]; });
  const size_t in_wave = std::max<size_t>(1, index(options.max_num_seqs / options.num_generations));
  std::vector<std::vector<Completion>> all(prompts.size());
  GenerationReport total;
  int64_t finished = 0;
  for (size_t begin = 0; begin < order.size(); begin += in_wave) {
    std::vector<const std::vector<int32_t>*> own;
    std::vector<uint64_t> numbers;
    for (size_t i = begin; i < std::min(order.size(), begin + in_wave); ++i) {
      own.push_back(&prompts[order[i]]);
      numbers.push_back(first_prompt + order[i]);
      total.prompt_tokens += static_cast<int64_t>(own.back()->size());
      all[order[i]].resize(index(options.num_generations));
    }
    WaveRun run(model, options, own, numbers);
    const auto started = Clock::now();
    run.prefill();
    total.prefill_seconds += seconds_since(started);
    const auto decoding_from = Clock::now();
    bool is_more = true;
    while (is_more) {
      if (progress) {
        int64_t done = 0, tokens = 0;
        for (const Decoding& one : run.decoding())
          done += one.is_done, tokens += static_cast<int64_t>(one.completion.token.size());
        progress(finished + done, total.completion_tokens + tokens);
      }
      is_more = run.decode();
    }
    total.decode_seconds += seconds_since(decoding_from);
    total.computed_tokens += run.wave().forest.rows();
    total.most_rows = std::max(total.most_rows, run.wave().places());
    for (Decoding& one : run.decoding()) {
      total.completion_tokens += static_cast<int64_t>(one.completion.token.size());
      ++finished;
      const uint64_t of_prompt = one.draw % static_cast<uint64_t>(options.num_generations);
      all[order[begin + one.prompt]][of_prompt] = std::move(one.completion);
    }
  }
  if (report) *report = total;
  return all;
}

}  // namespace fpdist::generate
