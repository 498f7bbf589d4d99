#include "src/generate/session.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"
#include "src/generate/draw_over_ranks.hpp"
#include "src/generate/draw_rows.hpp"
#include "src/generate/sampling.hpp"

namespace fpdist::generate {
namespace {

/// The one of `known` (ascending) that begins as `prompt` does for longest, and how long.
std::pair<size_t, int64_t> nearest(Session::Prompts prompts, const Sharing& sharing, std::span<const size_t> known,
                                   size_t prompt) {
  const auto after = std::lower_bound(known.begin(), known.end(), prompt) - known.begin();
  std::pair<size_t, int64_t> best{0, 0};
  for (const auto at : {after - 1, after}) {
    if (at < 0 || index(at) >= known.size()) continue;
    const int64_t shared = sharing.of(*prompts[known[index(at)]], *prompts[prompt]);
    if (shared > best.second) best = {index(at), shared};
  }
  return best;
}

constexpr size_t kFound = 4;  // numbers that a draw gives: token, log-prob, entropy, truncated probability

QueryRows in_order(const QueryRows& rows) {
  std::vector<size_t> order(rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rows.place[a] < rows.place[b]; });
  QueryRows sorted;
  for (const size_t i : order) sorted.add(rows.place[i], rows.token[i], rows.depth[i]);
  sorted.window = rows.window, sorted.grown = rows.grown;
  return sorted;
}

/// Its next row can be computed.
bool can_go_on(const Decoding& one) { return one.is_in_flight() && !one.waits && one.has_room(); }

/// The completion's next row, whose key its last token makes.
int32_t next_place(const Decoding& one) { return one.leaf + static_cast<int32_t>(one.tokens()) - 1; }

}  // namespace

Session::Session(const Stages& stages, Prompts prompts, std::span<Decoding> all, const SamplingOptions& options,
                 int64_t most_rows, std::vector<int64_t> shared)
    : prompts_(prompts),
      all_(all),
      options_(options),
      sharing_(options.flex_prefill, options.batch_invariant),
      shared_(std::move(shared)),
      admission_(prompts, all, options, most_rows),
      stop_texts_(options),
      keys_(stages, options),
      slots_(std::min<int64_t>(options.max_num_seqs, std::ssize(all))) {}

/// What of the next wave's forest was computed for the last one.
Moves Session::forest_moves(const Wave& next, std::span<const size_t> prompts, std::vector<bool>& is_computed) const {
  Moves moves;
  for (size_t p = 0; p < prompts.size(); ++p) {
    const auto [of_last, length] = nearest(prompts_, sharing_, in_wave_, prompts[p]);
    if (length == 0) continue;
    const std::vector<int32_t> from = path_of(wave_, of_last), to = path_of(next, p);
    for (size_t depth = 0; depth < index(length); ++depth) {
      const auto row = index(to[depth]);
      if (is_computed[row]) continue;
      is_computed[row] = true;
      moves.from.push_back(wave_.row[index(from[depth])]), moves.to.push_back(next.row[row]);
    }
  }
  return moves;
}

/// Rows of prompts that will be computed and that no other prompt has.
std::vector<OwnRun> Session::own_runs(const Wave& next, std::span<const size_t> prompts,
                                      const std::vector<bool>& is_computed) const {
  std::vector<OwnRun> runs;
  for (size_t p = 0; p < prompts.size(); ++p) {
    const size_t prompt = prompts[p];
    const int64_t shared = shared_[prompt];
    const std::vector<int32_t> path = path_of(next, p);
    if (index(shared) == path.size() || is_computed[index(path[index(shared)])]) continue;
    runs.push_back({.prompt = prompt,
                    .place = next.row[index(path[index(shared)])],
                    .depth = static_cast<int32_t>(shared),
                    .rows = static_cast<int32_t>(std::ssize(path) - shared)});
  }
  return runs;
}

void Session::change(GenerationReport& report) {
  report.paused += admission_.change();
  std::vector<size_t> prompts;
  std::vector<Leaf> leaves;
  flying_.clear();
  for (Decoding& one : all_) {
    if (!one.is_in_flight()) continue;
    if (prompts.empty() || prompts.back() != one.prompt) prompts.push_back(one.prompt);
    leaves.push_back({prompts.size() - 1, one.room});
    flying_.push_back(&one);
  }
  std::vector<const std::vector<int32_t>*> tokens;
  for (const size_t prompt : prompts) tokens.push_back(prompts_[prompt]);
  Wave next = make_wave(tokens, leaves, sharing_, spacing_of(options_));
  std::vector<bool> is_computed(index(next.forest.rows()), false);
  Moves moves = forest_moves(next, prompts, is_computed);
  for (size_t i = 0; i < flying_.size(); ++i) {
    const int32_t last = flying_[i]->leaf, leaf = next.leaf[i];
    flying_[i]->leaf = leaf;
    if (last < 0) continue;
    for (int32_t t = 0; t + 1 < flying_[i]->tokens(); ++t) moves.from.push_back(last + t), moves.to.push_back(leaf + t);
  }
  keys_.move_to(next, moves, shared_.empty() ? std::vector<OwnRun>() : own_runs(next, prompts, is_computed));
  wave_ = std::move(next), in_wave_ = std::move(prompts);
  collect(is_computed);
}

/// The rows that are to be computed: of prompts, their last one also where it is there, as a first token is drawn from
/// it; of completions that come back.
void Session::collect(const std::vector<bool>& is_computed) {
  std::vector<bool> is_asked = is_computed;
  is_asked.flip();
  for (size_t i = 0, p = 0; i < flying_.size(); ++i) {
    while (in_wave_[p] != flying_[i]->prompt) ++p;
    if (flying_[i]->tokens() == 0) is_asked[index(wave_.last_row[p])] = true;
  }
  QueryRows all;
  for (size_t r = 0; r < is_asked.size(); ++r)
    if (is_asked[r]) all.add(wave_.row[r], wave_.forest.token[r], wave_.forest.depth[r]);
  for (const Decoding* one : flying_)
    if (one->waits)
      for (int32_t t = 0; t + 1 < one->tokens(); ++t)
        all.add(one->leaf + t, one->completion.token[index(t)],
                static_cast<int32_t>(prompts_[one->prompt]->size()) + t);
  ahead_ = in_order(all), computed_ = 0;
  std::vector<const std::vector<int32_t>*> tokens;
  for (const size_t prompt : in_wave_) tokens.push_back(prompts_[prompt]);
  windows_ = windows_of(wave_, tokens, sharing_, is_asked);
  let_go();
}

int32_t Session::first_ahead() const {
  return computed_ < ahead_.size() ? ahead_.place[computed_] : static_cast<int32_t>(wave_.places());
}

/// Who comes back need not wait any longer once all rows before its next one are there.
void Session::let_go() {
  for (Decoding* one : flying_)
    if (one->waits && one->tokens() > 0) one->waits = first_ahead() < next_place(*one);
}

QueryRows Session::next_rows(GenerationReport& report) {
  QueryRows rows;
  grown_.clear();
  for (const Decoding* one : flying_) {
    if (!can_go_on(*one)) continue;
    grown_.push_back({one->prompt, one->leaf, static_cast<int32_t>(one->tokens())});
    const int64_t depth = static_cast<int64_t>(prompts_[one->prompt]->size()) + one->tokens() - 1;
    rows.add(next_place(*one), one->completion.token.back(), static_cast<int32_t>(depth));
  }
  rows.grown = grown_;
  const size_t left = ahead_.size() - computed_;
  const auto most = static_cast<size_t>(options_.max_num_batched_tokens);
  const size_t room = std::min(left, rows.size() < most ? most - rows.size() : size_t{rows.size() == 0});
  const size_t end = cut_between(windows_, ahead_.place, computed_, room), part = end - computed_;
  rows.window = windows_between(computed_, end);
  for (; computed_ < end; ++computed_)
    rows.add(ahead_.place[computed_], ahead_.token[computed_], ahead_.depth[computed_]);
  report.computed_tokens += static_cast<int64_t>(part);
  return part == 0 ? rows : in_order(rows);
}

std::span<const PromptWindow> Session::windows_between(size_t begin, size_t end) const {
  if (begin == end) return {};
  const auto is_ahead = [](const PromptWindow& one, int32_t place) { return one.place < place; };
  const auto first = std::lower_bound(windows_.begin(), windows_.end(), ahead_.place[begin], is_ahead);
  return {first, std::lower_bound(first, windows_.end(), ahead_.place[end - 1], is_ahead)};
}

bool Session::begin(GenerationReport& report) {
  if (computed_ == ahead_.size() && admission_.wants_change()) change(report);
  const auto started = Clock::now();
  const size_t computed = computed_;
  const QueryRows rows = next_rows(report);
  if (rows.size() == 0) {
    check(std::all_of(all_.begin(), all_.end(),
                      [](const Decoding& one) { return one.standing == Decoding::Standing::kDone; }),
          "nobody is in flight, but not all completions are done");
    return false;
  }
  is_prefill_ = computed_ > computed;
  draw(rows, keys_.compute(rows));
  const ops::FlexArea area = keys_.take_area();
  report.flex.kept_blocks += area.kept, report.flex.all_blocks += area.all;
  if (const KeysByLayer* kept = keys_.by_layer()) kept->set_kept(report);
  count(seconds_since(started), report);
  return true;
}

void Session::end(GenerationReport& report) {
  const auto started = Clock::now();
  keys_.end_sharing();
  for (size_t i = 0; i < drawing_.size(); ++i) {
    const double* const here = found_.const_data_ptr<double>() + i * kFound;
    report.truncated_mass += here[3];
    take(*drawing_[i], here);
  }
  let_go();
  count(seconds_since(started), report);
}

void Session::count(double seconds, GenerationReport& report) const {
  (is_prefill_ ? report.prefill_seconds : report.decode_seconds) += seconds;
  const auto flying = std::ranges::count_if(flying_, [](const Decoding* one) { return one->is_in_flight(); });
  if (2 * flying < slots_) report.tail_seconds += seconds;
}

/// Batch invariant: products of a panel of rows or more, since those of a few round by their number.
at::Tensor Session::logits(const at::Tensor& hidden) const {
  if (!options_.batch_invariant) return keys_.own_logits(hidden);
  const int64_t rows = hidden.size(0), whole = (rows + kPanel - 1) / kPanel * kPanel;
  const at::Tensor filled = at::constant_pad_nd(hidden, {0, 0, 0, whole - rows});
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < whole; begin += ops::kInvariantRows)
    parts.push_back(keys_.own_logits(filled.slice(0, begin, std::min(whole, begin + ops::kInvariantRows))));
  return at::cat(parts);
}

/// Who draws, from its next row or for its first token from its prompt's last one.
void Session::draw(const QueryRows& rows, const at::Tensor& hidden) {
  drawing_.clear();
  std::vector<int64_t> row, of;  // rows that logits are made of; the one of each who draws
  size_t p = 0;
  for (Decoding* one : flying_) {
    while (in_wave_[p] != one->prompt) ++p;
    const int32_t place = one->tokens() == 0 ? wave_.row[index(wave_.last_row[p])] : next_place(*one);
    const auto at = std::lower_bound(rows.place.begin(), rows.place.end(), place);
    if ((one->tokens() > 0 && !can_go_on(*one)) || at == rows.place.end() || *at != place) continue;
    const int64_t here = at - rows.place.begin();
    if (row.empty() || row.back() != here) row.push_back(here);
    drawing_.push_back(one), of.push_back(static_cast<int64_t>(row.size()) - 1);
  }
  found_ = at::empty({static_cast<int64_t>(drawing_.size()), kFound}, at::kDouble);
  if (keys_.has_logits() && !drawing_.empty()) {
    // Who enters beside an equal prompt draws from a row ahead of those that are in flight already.
    const bool are_all = static_cast<int64_t>(row.size()) == hidden.size(0) && std::is_sorted(row.begin(), row.end());
    const at::Tensor asked = are_all ? hidden : hidden.index_select(0, at::tensor(row).to(hidden.device()));
    draw_from(logits(asked), of);
  }
  keys_.begin_sharing(found_);
}

/// `row`: of logits, of each who draws. A GPU's logits stay there, and parts of them on their ranks.
void Session::draw_from(const at::Tensor& logits, std::span<const int64_t> row) {
  std::vector<RowDraw> draws;
  for (size_t i = 0; i < drawing_.size(); ++i) {
    const Decoding& one = *drawing_[i];
    draws.push_back({row[i], one.history, share_of(options_.seed, one.draw, one.completion.token.size())});
  }
  auto* const to = found_.mutable_data_ptr<double>();
  const auto put = [&](size_t i, const Drawn& drawn) {
    double* const here = to + i * kFound;
    here[0] = drawn.token, here[1] = drawn.logp, here[2] = drawn.entropy, here[3] = drawn.truncated;
  };
  comm::Communicator* const tp = keys_.tp();
  if (tp != nullptr || !logits.is_cpu()) {
    const std::vector<Drawn> drawn = tp != nullptr ? draw_over_ranks(logits, draws, options_, keys_.vocabulary(), *tp)
                                                   : draw_rows(logits, draws, options_);
    for (size_t i = 0; i < drawn.size(); ++i) put(i, drawn[i]);
    return;
  }
  const at::Tensor rows = logits.contiguous();
  const auto vocabulary = index(rows.size(1));
  const float* const all = rows.const_data_ptr<float>();
  at::parallel_for(0, static_cast<int64_t>(drawing_.size()), 1, [&](int64_t begin, int64_t end) {
    for (size_t i = index(begin); i < index(end); ++i)
      put(i, draw_token({all + index(draws[i].row) * vocabulary, vocabulary}, draws[i].history, options_, draws[i].u));
  });
}

void Session::take(Decoding& one, const double* found) const {
  Completion& completion = one.completion;
  const auto token = static_cast<int32_t>(found[0]);
  completion.token.push_back(token);
  completion.logp.push_back(found[1]);
  completion.entropy.push_back(found[2]);
  if (options_.repetition_penalty != 1) one.history.push_back(token);
  one.waits = false;
  const auto& stops = options_.stop_token_ids;
  if (std::find(stops.begin(), stops.end(), token) != stops.end())
    completion.finish_reason = FinishReason::kStop;
  else if (stop_texts_.complete(one.tail, token))
    completion.finish_reason = FinishReason::kStopString;
  const bool is_stop = completion.finish_reason != FinishReason::kLength;
  if (is_stop || one.tokens() == options_.max_completion_length) one.standing = Decoding::Standing::kDone;
}

}  // namespace fpdist::generate
