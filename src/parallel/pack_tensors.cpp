#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "fpdist/parallel/stage.hpp"
#include "fpdist/parallel/tensor_parallel.hpp"

namespace fpdist::parallel {
namespace {

size_t index(int64_t i) { return static_cast<size_t>(i); }

template <typename To, typename From>
at::Tensor to_tensor(const std::vector<From>& values, at::ScalarType dtype) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions(dtype));
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<To>());
  return tensor;
}
template <typename From>
at::Tensor int64s(const std::vector<From>& values) {
  return to_tensor<int64_t>(values, at::kLong);
}

/// Where each row of the pack lives.
struct Homes {
  std::vector<int32_t> rank;                     // [T] cp rank
  std::vector<int32_t> place;                    // [T] number among that rank's rows
  std::vector<std::vector<int64_t>> shard_rows;  // [cp][tp]

  Homes(const prefix::TreeLayout& layout, const RowShare& share) {
    const auto rows = static_cast<int32_t>(layout.rows());
    std::vector<std::vector<plan::RowRange>> whole;
    if (share.context == nullptr) whole.push_back({{0, rows}});
    const auto& owned = share.context != nullptr ? share.context->rank_rows : whole;
    rank.resize(index(rows)), place.resize(index(rows));
    for (size_t c = 0; c < owned.size(); ++c) {
      int32_t next = 0;
      for (const plan::RowRange& range : owned[c])
        for (int32_t row = range.begin; row < range.end; ++row)
          rank[index(row)] = static_cast<int32_t>(c), place[index(row)] = next++;
      shard_rows.push_back(split_evenly(next, share.tp_size));
    }
  }
  /// tp rank and number within its run of a row at `place` on cp rank `c`.
  std::pair<int, int64_t> shard(int c, int64_t at) const {
    int t = 0;
    for (const auto& rows = shard_rows[index(c)]; at >= rows[index(t)]; ++t) at -= rows[index(t)];
    return {t, at};
  }
};

void fill_rows(PackTensors& pack, const prefix::TreeLayout& layout, const Homes& homes, int cp_rank) {
  std::vector<int32_t> token, depth, row, end;
  for (size_t r = 0; r < homes.rank.size(); ++r) {
    if (homes.rank[r] != cp_rank) continue;
    token.push_back(layout.token[r]), depth.push_back(layout.depth[r]);
    row.push_back(static_cast<int32_t>(r)), end.push_back(layout.subtree_end[r]);
  }
  pack.token = int64s(token), pack.depth = int64s(depth);
  pack.row = to_tensor<int32_t>(row, at::kInt), pack.subtree_end = to_tensor<int32_t>(end, at::kInt);
}

/// Score rows ascend, so a rank's own ascend too, and equal neighbours share a head row.
void fill_scores(PackTensors& pack, const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  const auto scores = index(layout.scores());
  pack.head_count.assign(index(share.tp_size), 0);
  pack.score_count.assign(homes.shard_rows.size(), 0);
  std::vector<int64_t> head_row, score_row, score_target, own, place(scores);
  int32_t last = -1;
  int64_t heads = 0;
  for (size_t s = 0; s < scores; ++s) {
    const int32_t row = layout.score_row[s], home = homes.rank[index(row)];
    place[s] = pack.score_count[index(home)]++;
    if (home != share.cp_rank) continue;
    if (row != last) {
      const auto [tp, at] = homes.shard(home, homes.place[index(row)]);
      ++pack.head_count[index(tp)], ++heads;
      if (tp == share.tp_rank) head_row.push_back(at);
      last = row;
    }
    own.push_back(static_cast<int64_t>(s));
    score_row.push_back(heads - 1);
    score_target.push_back(layout.score_target[s]);
  }
  std::vector<int64_t> first(homes.shard_rows.size() + 1, 0);
  std::partial_sum(pack.score_count.begin(), pack.score_count.end(), first.begin() + 1);
  for (size_t s = 0; s < scores; ++s) place[s] += first[index(homes.rank[index(layout.score_row[s])])];
  pack.own_score = int64s(own);
  pack.head_row = int64s(head_row), pack.score_row = int64s(score_row), pack.score_target = int64s(score_target);
  pack.score_place = int64s(place);
  pack.edge_score = int64s(layout.edge_score), pack.edge_sample = int64s(layout.edge_sample);
}

void fill_samples(PackTensors& pack, const prefix::TreeLayout& layout, const Homes& homes, const RowShare& share) {
  const size_t ranks = homes.shard_rows.size() * index(share.tp_size);
  const size_t own = index(share.cp_rank * share.tp_size + share.tp_rank);
  pack.sample_count.assign(ranks, 0);
  std::vector<int64_t> last_row, own_sample, place(layout.sample.size(), -1), home(layout.sample.size(), 0);
  for (size_t b = 0; b < layout.sample.size(); ++b) {
    const int32_t row = layout.sample[b].last_row;
    if (row < 0) {
      pack.has_empty_sample = true;
      continue;
    }
    const int cp_rank = homes.rank[index(row)];
    const auto [tp, at] = homes.shard(cp_rank, homes.place[index(row)]);
    home[b] = cp_rank * share.tp_size + tp;
    place[b] = pack.sample_count[index(home[b])]++;
    if (index(home[b]) != own) continue;
    last_row.push_back(at), own_sample.push_back(static_cast<int64_t>(b));
  }
  std::vector<int64_t> first(ranks + 1, 0);
  std::partial_sum(pack.sample_count.begin(), pack.sample_count.end(), first.begin() + 1);
  for (size_t b = 0; b < place.size(); ++b)
    if (place[b] >= 0) place[b] += first[index(home[b])];
  pack.own_sample = int64s(own_sample);
  pack.last_row = int64s(last_row), pack.sample_place = int64s(place);
  pack.samples = static_cast<int64_t>(layout.sample.size());
}

}  // namespace

PackTensors make_pack_tensors(const prefix::TreeLayout& layout, const RowShare& share) {
  const Homes homes(layout, share);
  PackTensors pack;
  fill_rows(pack, layout, homes, share.cp_rank);
  pack.shard_rows = homes.shard_rows[index(share.cp_rank)];
  fill_scores(pack, layout, homes, share);
  fill_samples(pack, layout, homes, share);
  return pack;
}

}  // namespace fpdist::parallel
