#include "kernels/tree_attention/mask/attention_calls.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

#include "fpdist/core/error.hpp"
#include "kernels/tree_attention/mask/upload.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kTiledCapability = 80;  // the least that our kernels run on

at::Tensor checked(const at::Tensor& rows, const char* name) {
  check(rows.defined() && rows.device().is_cpu() && rows.scalar_type() == at::kInt && rows.dim() == 1,
        "tree_attention: ", name, " must be an int32 vector on the CPU");
  return rows.contiguous();
}

std::span<const int32_t> as_span(const at::Tensor& rows) {
  return {rows.const_data_ptr<int32_t>(), static_cast<size_t>(rows.numel())};
}

struct CallSegment {
  int64_t begin, end;
};

/// The indices and offsets of all sets, side by side: two uploads in all.
struct Arrays {
  std::vector<int64_t> index;
  std::vector<int32_t> offset;
};

/// Fills in the numbers and appends the arrays; the tensors follow once everything is on the device.
RowSet describe(const std::vector<CallSegment>& segments, Arrays& arrays) {
  RowSet rows;
  rows.first = segments.front().begin;
  rows.shortest = segments.front().end - segments.front().begin;
  bool is_run = true;
  arrays.offset.push_back(0);
  for (const CallSegment& segment : segments) {
    const int64_t length = segment.end - segment.begin;
    is_run = is_run && segment.begin == rows.first + rows.count;
    rows.count += length;
    rows.longest = std::max(rows.longest, length);
    rows.shortest = std::min(rows.shortest, length);
    arrays.offset.push_back(static_cast<int32_t>(rows.count));
  }
  if (is_run) return rows;
  rows.first = -1;
  for (const CallSegment& segment : segments)
    for (int64_t row = segment.begin; row < segment.end; ++row) arrays.index.push_back(row);
  return rows;
}

}  // namespace

at::Tensor RowSet::select(const at::Tensor& whole) const {
  return index.defined() ? whole.index_select(0, index) : whole.narrow(0, first, count);
}

void RowSet::put(at::Tensor& whole, const at::Tensor& part) const {
  index.defined() ? void(whole.index_copy_(0, index, part.to(whole.scalar_type())))
                  : void(whole.narrow(0, first, count).copy_(part));
}

void RowSet::add(at::Tensor& whole, const at::Tensor& part) const {
  index.defined() ? void(whole.index_add_(0, index, part.to(whole.scalar_type())))
                  : void(whole.narrow(0, first, count).add_(part));
}

AttentionCalls::AttentionCalls(const AttentionMask& mask, at::Device device, int64_t capability)
    : mask_{checked(mask.q_row, "q_row"), checked(mask.k_row, "k_row"), checked(mask.k_end, "k_end")},
      device_(at::empty({0}, at::TensorOptions(device)).device()),  // with its number, as tensors name it
      capability_(capability) {
  queries_ = mask_.q_row.numel(), keys_ = mask_.k_row.numel();
  check(keys_ == mask_.k_end.numel(), "tree_attention: ", keys_, " key rows, but ", mask_.k_end.numel(), " ends");
  check_rows(as_span(mask_.q_row), as_span(mask_.k_row), as_span(mask_.k_end));
  has_tiles() ? void(tiles()) : void(list());
}

AttentionCalls::AttentionCalls(const AttentionMask& mask, std::span<const KeyRun> runs, at::Device device,
                               int64_t capability)
    : mask_{checked(mask.q_row, "q_row"), checked(mask.k_row, "k_row"), checked(mask.k_end, "k_end")},
      pieces_(find_pieces(as_span(mask_.q_row), runs)),
      device_(at::empty({0}, at::TensorOptions(device)).device()),
      capability_(capability) {
  queries_ = mask_.q_row.numel(), keys_ = mask_.k_row.numel();
  check(keys_ == (runs.empty() ? 0 : runs.back().k_end), "tree_attention: ", keys_,
        " key rows, but runs of another number of them");
}

bool AttentionCalls::has_tiles() const { return device_.is_cuda() && capability_ >= kTiledCapability; }

const std::vector<VarlenCall>& AttentionCalls::list() const {
  std::call_once(later_->calls, [&] { calls_ = lay_out(); });
  return calls_;
}

const std::optional<AttentionTiles>& AttentionCalls::tiles() const {
  std::call_once(later_->tiles, [&] {
    if (has_tiles()) tiles_ = make_tiles(mask_, device_, capability_);
  });
  return tiles_;
}

const DecodeTables* AttentionCalls::decoding(const DecodeShape& shape) const {
  const auto is_causal = [](const Piece& piece) { return piece.is_causal; };
  if (pieces_.empty() || !has_tiles() || std::ranges::any_of(pieces_, is_causal)) return nullptr;
  const std::lock_guard lock(later_->mutex);
  const auto [found, is_new] = later_->decoding.try_emplace(shape);
  if (is_new) found->second = make_decode_tables(pieces_, queries_, shape, device_);
  return &found->second;
}

std::vector<VarlenCall> AttentionCalls::lay_out() const {
  std::vector<VarlenCall> calls;
  Arrays arrays;
  for (Level& level : find_levels(as_span(mask_.q_row), as_span(mask_.k_row), as_span(mask_.k_end))) {
    std::vector<CallSegment> q, k;
    for (const Piece& piece : level.piece) {
      q.push_back({piece.q_begin, piece.q_end});
      k.push_back({piece.k_begin, piece.k_end});
    }
    RowSet queries = describe(q, arrays), keys = describe(k, arrays);
    calls.push_back({std::move(level), std::move(queries), std::move(keys)});
  }
  const at::Tensor index = upload(arrays.index, at::kLong, device_), offset = upload(arrays.offset, at::kInt, device_);
  int64_t next_index = 0, next_offset = 0;
  for (VarlenCall& call : calls)
    for (RowSet* rows : {&call.q, &call.k}) {
      const auto offsets = static_cast<int64_t>(call.level.piece.size()) + 1;
      rows->offset = offset.narrow(0, next_offset, offsets);
      next_offset += offsets;
      if (rows->first >= 0) continue;
      rows->index = index.narrow(0, next_index, rows->count);
      next_index += rows->count;
    }
  return calls;
}

}  // namespace fpdist::kernels
