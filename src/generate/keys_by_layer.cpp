#include "src/generate/keys_by_layer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "src/core/index.hpp"
#include "src/generate/prefix_kv.hpp"

namespace fpdist::generate {
namespace {

/// The numbers where they lie, which must outlive the tensor.
at::Tensor view_of(std::vector<int32_t>& numbers) {
  return at::from_blob(numbers.data(), {std::ssize(numbers)}, at::kInt);
}

at::Tensor int64s(const std::vector<int64_t>& numbers) { return at::tensor(numbers, at::kLong); }

/// kept[run].keys[layer], one layer behind the other over all runs.
template <typename Body>
void for_layers(std::vector<model::KeptKeys>& kept, const Body& body) {
  size_t at = 0;
  for (model::KeptKeys& run : kept)
    for (size_t layer = 0; layer < run.keys.size(); ++layer, ++at) body(at, run.keys[layer], run.values[layer]);
}

}  // namespace

size_t KeysByLayer::HeldLayer::at(int32_t sought) const {
  return index(std::lower_bound(place.begin(), place.end(), sought) - place.begin());
}

KeysByLayer::KeysByLayer(const Stages& stages, const PrefixKvOptions& options) : stages_(stages), options_(options) {
  for (const model::Transformer* run : stages.runs)
    for (size_t i = 0; i < run->make_kept_keys(0).keys.size(); ++i)
      number_.push_back(run->options().layers.first + static_cast<int64_t>(i));
  layer_.resize(number_.size());
  dropped_.resize(index(stages.runs.front()->config().layer_count()));
}

void KeysByLayer::set_kept(GenerationReport& report) const {
  report.kept_keys = kept_keys_, report.all_keys = all_keys_;
  report.chosen_prompts = chosen_, report.dropped = dropped_;
}

void KeysByLayer::move_to(std::vector<model::KeptKeys>& kept, const Wave& wave, const Moves& moves,
                          std::vector<OwnRun> runs) {
  for_layers(kept, [&](size_t at, at::Tensor& keys, at::Tensor& values) {
    HeldLayer &last = layer_[at], next;
    std::vector<bool> is_there(wave.end.size(), true);
    std::vector<int64_t> from, to;
    std::vector<int32_t> moved;
    for (size_t i = 0; i < moves.from.size(); ++i) {
      const size_t held = last.at(moves.from[i]);
      const bool is_held = held < last.place.size() && last.place[held] == moves.from[i] && !last.is_gone[held];
      if (is_held)
        from.push_back(static_cast<int64_t>(held)), moved.push_back(moves.to[i]);
      else
        is_there[index(moves.to[i])] = false;
    }
    for (size_t place = 0; place < is_there.size(); ++place)
      if (is_there[place]) next.place.push_back(static_cast<int32_t>(place)), next.end.push_back(wave.end[place]);
    for (const int32_t place : moved) to.push_back(static_cast<int64_t>(next.at(place)));
    next.is_gone.resize(next.place.size(), false);
    next.share = std::move(last.share);
    for (at::Tensor* const tensor : {&keys, &values}) {
      at::Tensor all = at::zeros({std::ssize(next.place), tensor->size(1), tensor->size(2)}, tensor->options());
      if (!to.empty()) all.index_copy_(0, int64s(to), tensor->index_select(0, int64s(from)));
      *tensor = std::move(all);
    }
    last = std::move(next);
  });
  counting_.clear();
  for (const OwnRun& run : runs) {
    Counting& one = counting_.emplace_back();
    one.run = run;
    for (size_t i = 0; i < layer_.size(); ++i) one.sum.push_back(at::zeros({run.rows}, at::kDouble));
  }
}

void KeysByLayer::begin(std::vector<model::KeptKeys>& kept, std::span<const int32_t> places) {
  const at::Tensor q_row = at::tensor(at::ArrayRef<int32_t>(places.data(), places.size()), at::kInt);
  size_t before = 0;  // layers of earlier runs
  for (model::KeptKeys& run : kept) {
    auto all = std::make_shared<model::LayerwiseKeys>();
    for (size_t i = 0; i < run.keys.size(); ++i) {
      HeldLayer& layer = layer_[before + i];
      std::vector<int64_t> row;
      for (const int32_t place : places) row.push_back(static_cast<int64_t>(layer.at(place)));
      all->layer.push_back({int64s(row), {q_row, view_of(layer.place), view_of(layer.end)}});
    }
    for (Counting& counting : counting_) {
      const OwnRun& own = counting.run;
      const auto begin = std::lower_bound(places.begin(), places.end(), own.place);
      const auto end = std::lower_bound(begin, places.end(), own.place + own.rows);
      if (begin == end) continue;
      counting.done = *std::prev(end) + 1 - own.place;
      model::LayerwiseKeys::Counted& counted = all->counted.emplace_back();
      counted.begin = begin - places.begin(), counted.rows = end - begin, counted.keys = counting.done;
      for (size_t i = 0; i < run.keys.size(); ++i) {
        counted.first.push_back(static_cast<int64_t>(layer_[before + i].at(own.place)));
        counted.sum.push_back(counting.sum[before + i]);
      }
    }
    before += run.keys.size();
    run.layerwise = std::move(all);
  }
}

void KeysByLayer::end(std::vector<model::KeptKeys>& kept, std::span<const GrownLeaf> grown) {
  std::vector<std::vector<bool>> goes;
  for (const HeldLayer& layer : layer_) goes.emplace_back(layer.place.size(), false);
  const auto is_done = [](const Counting& one) { return one.done == one.run.rows; };
  bool any = false;
  for (const Counting& counting : counting_)
    if (is_done(counting)) choose(counting, goes), any = true;
  std::erase_if(counting_, is_done);
  for (const GrownLeaf& leaf : grown) shorten(leaf);
  if (any) drop(kept, goes);
}

/// Of all layers of the model.
std::vector<std::vector<double>> KeysByLayer::importance(const Counting& counting) const {
  const int64_t layers = stages_.runs.front()->config().layer_count();
  at::Tensor all = at::zeros({layers, counting.run.rows}, at::kDouble);
  for (size_t at = 0; at < layer_.size(); ++at) all[number_[at]].copy_(counting.sum[at]);
  if (comm::Communicator* const tp = stages_.runs.front()->options().tp) tp->all_reduce(all);
  if (stages_.pp != nullptr) stages_.pp->all_reduce(all);
  std::vector<std::vector<double>> lists;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const double* const row = all.const_data_ptr<double>() + layer * counting.run.rows;
    lists.emplace_back(row, row + counting.run.rows);
  }
  return lists;
}

/// How many of a run's keys each layer of the model drops.
std::vector<int64_t> KeysByLayer::dropped(std::span<const std::vector<double>> importance, int64_t first) const {
  if (options_.dropped.empty()) return dropped_by_layer(importance, options_.budget, first);
  return dropped_by_shares(options_.dropped, std::ssize(importance.front()), first);
}

/// Which keys of its run go, in each layer.
void KeysByLayer::choose(const Counting& counting, std::vector<std::vector<bool>>& goes) {
  const OwnRun& run = counting.run;
  const int64_t first = std::max<int64_t>(0, options_.start_size - run.depth);
  const std::vector<std::vector<double>> important = importance(counting);
  const std::vector<int64_t> dropped = this->dropped(important, first);
  ++chosen_;
  for (size_t layer = 0; layer < dropped.size(); ++layer)
    dropped_[layer] += static_cast<double>(dropped[layer]) / run.rows;
  for (size_t at = 0; at < layer_.size(); ++at) {
    const auto number = index(number_[at]);
    const std::vector<int32_t> kept = chosen_keys(important[number], dropped[number], first);
    const auto begin = goes[at].begin() + static_cast<int64_t>(layer_[at].at(run.place));
    std::fill_n(begin, run.rows, true);
    for (const int32_t key : kept) *(begin + key) = false;
    layer_[at].share[run.prompt] = static_cast<double>(kept.size()) / run.rows;
    kept_keys_ += std::ssize(kept), all_keys_ += run.rows;
  }
}

void KeysByLayer::drop(std::vector<model::KeptKeys>& kept, const std::vector<std::vector<bool>>& goes) {
  for_layers(kept, [&](size_t at, at::Tensor& keys, at::Tensor& values) {
    const HeldLayer& last = layer_[at];
    HeldLayer next;
    std::vector<int64_t> stays;
    for (size_t i = 0; i < last.place.size(); ++i) {
      if (goes[at][i]) continue;
      stays.push_back(static_cast<int64_t>(i));
      next.place.push_back(last.place[i]), next.end.push_back(last.end[i]), next.is_gone.push_back(last.is_gone[i]);
    }
    next.share = last.share;
    keys = keys.index_select(0, int64s(stays)), values = values.index_select(0, int64s(stays));
    layer_[at] = std::move(next);
  });
}

/// Where a row more is one too many, a row goes: nobody below it sees it.
void KeysByLayer::shorten(const GrownLeaf& leaf) {
  for (HeldLayer& layer : layer_) {
    const auto share = layer.share.find(leaf.prompt);
    if (share == layer.share.end()) continue;
    const auto kept = [&](int64_t rows) { return kept_of_completion(rows, share->second, options_.distance); };
    if (kept(leaf.rows) > kept(leaf.rows - 1)) continue;
    size_t at = layer.at(leaf.place + leaf.rows - 1);
    for (int64_t passed = 0; passed < options_.distance; passed += !layer.is_gone[at]) --at;
    layer.is_gone[at] = true, layer.end[at] = layer.place[at] + 1;
  }
}

}  // namespace fpdist::generate
