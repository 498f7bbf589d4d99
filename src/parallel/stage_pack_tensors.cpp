#include <algorithm>
#include <array>
#include <numeric>

#include "fpdist/parallel/stage.hpp"
#include "fpdist/parallel/tensor_parallel.hpp"
#include "src/core/index.hpp"
#include "src/parallel/to_tensor.hpp"

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

void fill_rows(std::vector<PackTensors>& all, const prefix::TreeLayout& layout, const Homes& homes,
               const RowShare& share) {
  struct Rows {
    std::vector<int32_t> token, depth, row, end;
  };
  std::vector<Rows> of_slice(all.size());
  for (size_t r = 0; r < homes.row.size(); ++r) {
    if (homes.row[r].cp != share.cp_rank) continue;
    Rows& rows = of_slice[index(homes.row[r].slice)];
    rows.token.push_back(layout.token[r]), rows.depth.push_back(layout.depth[r]);
    rows.row.push_back(static_cast<int32_t>(r)), rows.end.push_back(layout.subtree_end[r]);
  }
  for (size_t s = 0; s < all.size(); ++s) {
    all[s].token = int64s(of_slice[s].token), all[s].depth = int64s(of_slice[s].depth);
    const at::Tensor row = int32s(of_slice[s].row);
    all[s].mask = {row, row, int32s(of_slice[s].end)};
    all[s].shard_rows = homes.shard_rows[s][index(share.cp_rank)];
  }
}

/// Score rows ascend, so a rank's own ascend too, and equal neighbours share a head row.
void fill_scores(std::vector<PackTensors>& all, const prefix::TreeLayout& layout, const Homes& homes,
                 const RowShare& share) {
  struct Scores {
    std::vector<int64_t> head_row, row, target;
    int32_t last = -1;
    int64_t heads = 0;
  };
  std::vector<Scores> of_slice(all.size());
  for (PackTensors& pack : all) pack.head_count.assign(index(share.tp_size), 0);
  for (size_t s = 0; s < layout.score_row.size(); ++s) {
    const int32_t row = layout.score_row[s];
    const Home& home = homes.row[index(row)];
    if (home.cp != share.cp_rank) continue;
    Scores& scores = of_slice[index(home.slice)];
    if (row != scores.last) {
      ++all[index(home.slice)].head_count[index(home.tp)], ++scores.heads;
      if (home.tp == share.tp_rank) scores.head_row.push_back(home.place);
      scores.last = row;
    }
    scores.row.push_back(scores.heads - 1), scores.target.push_back(layout.score_target[s]);
  }
  for (size_t s = 0; s < all.size(); ++s) {
    all[s].head_row = int64s(of_slice[s].head_row);
    all[s].score_row = int64s(of_slice[s].row), all[s].score_target = int64s(of_slice[s].target);
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

/// The fields that all slices of a pack have in common.
PackTensors common_fields(const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  PackTensors pack;
  const size_t slices = homes.shard_rows.size(), cp_size = homes.shard_rows[0].size();
  const auto score_home = [&](size_t s) -> const Home& { return homes.row[index(layout.score_row[s])]; };
  Places scores(
      layout.score_row.size(), cp_size, slices, share.cp_rank, [&](size_t s) { return score_home(s).cp; },
      [&](size_t s) { return index(score_home(s).slice); });
  pack.score_count = scores.count;
  pack.score_place = int64s(scores.place), pack.own_score = int64s(scores.own);
  pack.edge_score = int64s(layout.edge_score), pack.edge_sample = int64s(layout.edge_sample);

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
  pack.sample_count = samples.count;
  pack.sample_place = int64s(samples.place), pack.own_sample = int64s(samples.own);
  pack.samples = static_cast<int64_t>(layout.sample.size());
  for (size_t b = 0; b < layout.sample.size(); ++b) pack.has_empty_sample = pack.has_empty_sample || last(b) < 0;
  pack.slices = static_cast<int>(slices);
  return pack;
}

void fill_last_rows(std::vector<PackTensors>& all, const prefix::TreeLayout& layout, const Homes& homes,
                    const RowShare& share) {
  std::vector<std::vector<int64_t>> of_slice(all.size());
  for (const prefix::SampleRef& sample : layout.sample) {
    if (sample.last_row < 0) continue;
    const Home& home = homes.row[index(sample.last_row)];
    if (home.cp == share.cp_rank && home.tp == share.tp_rank) of_slice[index(home.slice)].push_back(home.place);
  }
  for (size_t s = 0; s < all.size(); ++s) all[s].last_row = int64s(of_slice[s]);
}

/// Of a whole pack at once: the fields that its slices share in the first one.
void upload(std::vector<PackTensors>& slices, comm::Device& device) {
  std::vector<at::Tensor*> all;
  for (PackTensors& pack : slices)
    all.insert(all.end(),
               {&pack.token, &pack.depth, &pack.head_row, &pack.score_row, &pack.score_target, &pack.last_row});
  const auto common = [](PackTensors& pack) {
    return std::array{&pack.score_place, &pack.own_score,    &pack.edge_score,
                      &pack.edge_sample, &pack.sample_place, &pack.own_sample};
  };
  const auto shared = common(slices.front());
  all.insert(all.end(), shared.begin(), shared.end());
  device.upload_all(all);
  for (size_t s = 1; s < slices.size(); ++s)
    for (size_t i = 0; i < shared.size(); ++i) *common(slices[s])[i] = *shared[i];
}

}  // namespace

std::vector<PackTensors> make_slice_tensors(const prefix::TreeLayout& layout, const RowShare& share,
                                            comm::Device* device) {
  const Homes homes(layout, share);
  const PackTensors common = common_fields(layout, homes, share);
  std::vector<PackTensors> all(index(common.slices), common);
  for (size_t slice = 0; slice < all.size(); ++slice) all[slice].slice = static_cast<int>(slice);
  fill_rows(all, layout, homes, share);
  fill_scores(all, layout, homes, share);
  fill_last_rows(all, layout, homes, share);
  if (device == nullptr) return all;
  upload(all, *device);
  for (PackTensors& pack : all) {
    pack.deterministic = device->deterministic();
    // An exchange lays its own attention out.
    if (share.slices.empty()) pack.calls = ops::prepare_attention(pack.mask, device->where());
  }
  return all;
}

PackTensors make_pack_tensors(const prefix::TreeLayout& layout, comm::Device* device) {
  return make_slice_tensors(layout, {}, device).front();
}

}  // namespace fpdist::parallel
