#include <algorithm>
#include <array>
#include <numeric>

#include "fpdist/parallel/stage.hpp"
#include "fpdist/parallel/tensor_parallel.hpp"
#include "src/parallel/to_tensor.hpp"

namespace fpdist::parallel {
namespace {

size_t index(int64_t i) { return static_cast<size_t>(i); }

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

void fill_rows(PackTensors& pack, const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  std::vector<int32_t> token, depth, row, end;
  for (size_t r = 0; r < homes.row.size(); ++r) {
    if (homes.row[r].cp != share.cp_rank || homes.row[r].slice != pack.slice) continue;
    token.push_back(layout.token[r]), depth.push_back(layout.depth[r]);
    row.push_back(static_cast<int32_t>(r)), end.push_back(layout.subtree_end[r]);
  }
  pack.token = int64s(token), pack.depth = int64s(depth);
  pack.row = int32s(row), pack.subtree_end = int32s(end);
  pack.shard_rows = homes.shard_rows[index(pack.slice)][index(share.cp_rank)];
}

/// Score rows ascend, so a rank's own ascend too, and equal neighbours share a head row.
void fill_scores(PackTensors& pack, const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  pack.head_count.assign(index(share.tp_size), 0);
  std::vector<int64_t> head_row, score_row, score_target;
  int32_t last = -1;
  int64_t heads = 0;
  for (size_t s = 0; s < layout.score_row.size(); ++s) {
    const int32_t row = layout.score_row[s];
    const Home& home = homes.row[index(row)];
    if (home.cp != share.cp_rank || home.slice != pack.slice) continue;
    if (row != last) {
      ++pack.head_count[index(home.tp)], ++heads;
      if (home.tp == share.tp_rank) head_row.push_back(home.place);
      last = row;
    }
    score_row.push_back(heads - 1);
    score_target.push_back(layout.score_target[s]);
  }
  pack.head_row = int64s(head_row), pack.score_row = int64s(score_row), pack.score_target = int64s(score_target);
}

/// Places in the concatenation over ranks of what each holds, slice after slice. `home_of(i)`: the rank, -1: nobody.
struct Places {
  std::vector<int64_t> count, place, own;

  template <typename RankOf, typename SliceOf>
  Places(size_t items, size_t ranks, size_t slices, int64_t own_rank, RankOf rank_of, SliceOf slice_of)
      : count(ranks, 0), place(items, -1) {
    for (size_t slice = 0; slice < slices; ++slice)
      for (size_t i = 0; i < items; ++i) {
        const int64_t rank = rank_of(i);
        if (rank < 0 || slice_of(i) != slice) continue;
        place[i] = count[index(rank)]++;
        if (rank == own_rank) own.push_back(static_cast<int64_t>(i));
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

void fill_last_rows(PackTensors& pack, const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  std::vector<int64_t> rows;
  for (const prefix::SampleRef& sample : layout.sample) {
    if (sample.last_row < 0) continue;
    const Home& home = homes.row[index(sample.last_row)];
    if (home.slice == pack.slice && home.cp == share.cp_rank && home.tp == share.tp_rank) rows.push_back(home.place);
  }
  pack.last_row = int64s(rows);
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
  std::vector<PackTensors> all;
  for (int slice = 0; slice < common.slices; ++slice) {
    PackTensors& pack = all.emplace_back(common);
    pack.slice = slice;
    fill_rows(pack, layout, homes, share);
    fill_scores(pack, layout, homes, share);
    fill_last_rows(pack, layout, homes, share);
  }
  if (device == nullptr) return all;
  upload(all, *device);
  if (!share.slices.empty()) return all;  // an exchange plans its own attention
  for (PackTensors& pack : all)
    pack.attention =
        ops::prepare_attention(pack.row, pack.row, pack.subtree_end, device->where(), device->deterministic());
  return all;
}

PackTensors make_pack_tensors(const prefix::TreeLayout& layout, comm::Device* device) {
  return make_slice_tensors(layout, {}, device).front();
}

}  // namespace fpdist::parallel
