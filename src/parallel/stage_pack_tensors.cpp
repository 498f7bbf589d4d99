#include <algorithm>
#include <numeric>

#include "fpdist/comm/device.hpp"
#include "fpdist/parallel/stage.hpp"
#include "src/core/index.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"
#include "src/parallel/to_tensor.hpp"
#include "src/plan/context/context_plan.hpp"
#include "src/prefix/row_keys.hpp"

namespace fpdist::parallel {
namespace {

/// Where each row of the pack lives: its slice, the cp rank, the tp rank and its number in that tp rank's run.
struct Home {
  int32_t slice = 0, cp = 0, tp = 0, place = 0;
};

struct Homes {
  std::vector<Home> row;                                      // [T]
  std::vector<std::vector<std::vector<int64_t>>> shard_rows;  // [slices][cp][tp]

  Homes(const prefix::TreeLayout& layout, const RowShare& share) : row(index(layout.rows())) {
    if (share.slices.empty()) {
      add_slice({{{0, static_cast<int32_t>(layout.rows())}}}, share.tp_size);
      return;
    }
    for (const plan::CpPlan& plan : share.slices) add_slice(plan.rank_rows, share.tp_size);
  }

 private:
  void add_slice(const std::vector<std::vector<plan::RowRange>>& owned, int tp_size) {
    const auto slice = static_cast<int32_t>(shard_rows.size());
    auto& of_slice = shard_rows.emplace_back();
    for (size_t c = 0; c < owned.size(); ++c) {
      int64_t total = 0;
      for (const plan::RowRange& range : owned[c]) total += range.size();
      of_slice.push_back(split_evenly(total, tp_size));
      int32_t tp = 0, place = 0;
      for (const plan::RowRange& range : owned[c])
        for (int32_t r = range.begin; r < range.end; ++r) {
          while (place >= of_slice.back()[index(tp)]) place = 0, ++tp;
          row[index(r)] = {slice, static_cast<int32_t>(c), tp, place++};
        }
    }
  }
};

// All slices of a pack in one go over its rows and scores: there may be as many slices as rows.

using Slices = std::vector<SliceTensors>;

void fill_rows(Slices& all, const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  struct Rows {
    std::vector<int32_t> token, depth, row, end;
    std::vector<int64_t> key;
  };
  const std::vector<int64_t> keys = share.keyed ? prefix::row_keys(layout) : std::vector<int64_t>();
  std::vector<Rows> of_slice(all.size());
  for (size_t r = 0; r < homes.row.size(); ++r) {
    if (homes.row[r].cp != share.cp_rank) continue;
    Rows& rows = of_slice[index(homes.row[r].slice)];
    rows.token.push_back(layout.token[r]), rows.depth.push_back(layout.depth[r]);
    if (share.keyed) rows.key.push_back(keys[r]);
    rows.row.push_back(static_cast<int32_t>(r)), rows.end.push_back(layout.subtree_end[r]);
  }
  for (size_t s = 0; s < all.size(); ++s) {
    RowsHere& rows = all[s].rows;
    rows.slice = static_cast<int>(s), rows.slices = static_cast<int>(all.size());
    rows.token = int64s(of_slice[s].token), rows.depth = int64s(of_slice[s].depth);
    if (share.keyed) rows.key = int64s(of_slice[s].key);
    const at::Tensor row = int32s(of_slice[s].row);
    rows.mask = {row, row, int32s(of_slice[s].end)};
    rows.shard_rows = homes.shard_rows[s][index(share.cp_rank)];
  }
}

/// Score rows ascend, so a rank's own ascend too, and equal neighbours share a head row.
void fill_scores(Slices& all, const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  struct Scores {
    std::vector<int64_t> head_row, row, target;
    int32_t last = -1;
    int64_t heads = 0;
  };
  std::vector<Scores> of_slice(all.size());
  for (SliceTensors& slice : all) slice.head.count.assign(index(share.tp_size), 0);
  for (size_t s = 0; s < layout.score_row.size(); ++s) {
    const int32_t row = layout.score_row[s];
    const Home& home = homes.row[index(row)];
    if (home.cp != share.cp_rank) continue;
    Scores& scores = of_slice[index(home.slice)];
    if (row != scores.last) {
      ++all[index(home.slice)].head.count[index(home.tp)], ++scores.heads;
      if (home.tp == share.tp_rank) scores.head_row.push_back(home.place);
      scores.last = row;
    }
    scores.row.push_back(scores.heads - 1), scores.target.push_back(layout.score_target[s]);
  }
  for (size_t s = 0; s < all.size(); ++s) {
    HeadRows& head = all[s].head;
    head.row = int64s(of_slice[s].head_row);
    head.score_row = int64s(of_slice[s].row), head.score_target = int64s(of_slice[s].target);
  }
}

/// Places in the concatenation over ranks of what each holds, slice after slice. `home_of(i)`: the rank, -1: nobody.
struct Places {
  std::vector<int64_t> count, place, own;

  template <typename RankOf, typename SliceOf>
  Places(size_t items, size_t ranks, size_t slices, int64_t own_rank, RankOf rank_of, SliceOf slice_of)
      : count(ranks, 0), place(items, -1) {
    std::vector<std::vector<size_t>> items_of(slices);
    for (size_t i = 0; i < items; ++i)
      if (rank_of(i) >= 0) items_of[slice_of(i)].push_back(i);
    for (const std::vector<size_t>& of_slice : items_of)
      for (const size_t i : of_slice) {
        place[i] = count[index(rank_of(i))]++;
        if (rank_of(i) == own_rank) own.push_back(static_cast<int64_t>(i));
      }
    std::vector<int64_t> first(ranks + 1, 0);
    std::partial_sum(count.begin(), count.end(), first.begin() + 1);
    for (size_t i = 0; i < items; ++i)
      if (place[i] >= 0) place[i] += first[index(rank_of(i))];
  }
};

LossPlaces loss_places(const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  LossPlaces all;
  const size_t slices = homes.shard_rows.size(), cp_size = homes.shard_rows[0].size();
  const auto score_home = [&](size_t s) -> const Home& { return homes.row[index(layout.score_row[s])]; };
  Places scores(
      layout.score_row.size(), cp_size, slices, share.cp_rank, [&](size_t s) { return score_home(s).cp; },
      [&](size_t s) { return index(score_home(s).slice); });
  all.score_count = scores.count;
  all.score_place = int64s(scores.place), all.own_score = int64s(scores.own);
  all.edge_score = int64s(layout.edge_score), all.edge_sample = int64s(layout.edge_sample);

  const auto last = [&](size_t b) { return layout.sample[b].last_row; };
  Places samples(
      layout.sample.size(), cp_size * index(share.tp_size), slices,
      int64_t{share.cp_rank} * share.tp_size + share.tp_rank,
      [&](size_t b) -> int64_t {
        if (last(b) < 0) return -1;
        const Home& home = homes.row[index(last(b))];
        return int64_t{home.cp} * share.tp_size + home.tp;
      },
      [&](size_t b) { return index(homes.row[index(last(b))].slice); });
  all.sample_count = samples.count;
  all.sample_place = int64s(samples.place), all.own_sample = int64s(samples.own);
  return all;
}

void fill_last_rows(Slices& all, const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  std::vector<std::vector<int64_t>> of_slice(all.size());
  bool has_empty_sample = false;
  for (const prefix::SampleRef& sample : layout.sample) {
    has_empty_sample = has_empty_sample || sample.last_row < 0;
    if (sample.last_row < 0) continue;
    const Home& home = homes.row[index(sample.last_row)];
    if (home.cp == share.cp_rank && home.tp == share.tp_rank) of_slice[index(home.slice)].push_back(home.place);
  }
  for (size_t s = 0; s < all.size(); ++s)
    all[s].head.last_row = int64s(of_slice[s]), all[s].head.has_empty_sample = has_empty_sample;
}

/// All of a pack in one block.
void upload(PackTensors& pack, comm::Device& device) {
  LossPlaces& places = pack.places;
  std::vector<at::Tensor*> all{&places.score_place, &places.own_score,    &places.edge_score,
                               &places.edge_sample, &places.sample_place, &places.own_sample};
  for (auto& [rows, head] : pack.slice)
    all.insert(all.end(), {&rows.token, &rows.depth, &head.row, &head.score_row, &head.score_target, &head.last_row});
  for (SliceTensors& slice : pack.slice)
    if (slice.rows.key.defined()) all.push_back(&slice.rows.key);
  device.upload_all(all);
}

}  // namespace

PackTensors make_pack_tensors(const prefix::TreeLayout& layout, const RowShare& share, comm::Device* device) {
  const Homes homes(layout, share);
  PackTensors pack{.slice = Slices(homes.shard_rows.size()), .places = loss_places(layout, homes, share)};
  fill_rows(pack.slice, layout, homes, share);
  fill_scores(pack.slice, layout, homes, share);
  fill_last_rows(pack.slice, layout, homes, share);
  if (device == nullptr) return pack;
  upload(pack, *device);
  for (SliceTensors& slice : pack.slice) {
    slice.rows.deterministic = device->deterministic();
    // An exchange lays its own attention out.
    if (share.slices.empty()) slice.rows.calls = ops::prepare_attention(slice.rows.mask, device->where());
  }
  return pack;
}

}  // namespace fpdist::parallel
