#include "kernels/tree_attention/decode/decode_plan.hpp"

#include <algorithm>
#include <functional>

namespace fpdist::kernels {
namespace {

int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t steps_of(const Piece& piece) { return divided_up(piece.k_end - piece.k_begin, kKeysOfDecodeStep); }

/// So many that the blocks of all pieces are about as many as the card runs at once.
int64_t steps_of_chunk(std::span<const Piece> pieces, int64_t queries_of_tile, int64_t heads, int64_t processors) {
  int64_t steps = 0;
  for (const Piece& piece : pieces)
    steps += divided_up(piece.q_end - piece.q_begin, queries_of_tile) * steps_of(piece) * heads;
  return std::max(kLeastDecodeSteps, divided_up(steps, kBlocksOfProcessor * processors));
}

}  // namespace

DecodePlan plan_decoding(std::span<const Piece> pieces, int64_t queries, const DecodeShape& shape, int processors) {
  const int64_t each = std::max<int64_t>(1, shape.rows_of_tile / shape.group);
  const int64_t most = steps_of_chunk(pieces, each, shape.key_heads, processors);
  DecodePlan plan;
  std::vector<std::vector<int32_t>> parts(static_cast<size_t>(queries));
  for (const Piece& piece : pieces) {
    const int64_t steps = steps_of(piece), chunks = divided_up(steps, most);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = piece.k_begin + steps * chunk / chunks * kKeysOfDecodeStep,
                    end = std::min(piece.k_end, piece.k_begin + steps * (chunk + 1) / chunks * kKeysOfDecodeStep);
      for (int64_t query = piece.q_begin; query < piece.q_end; query += each) {
        const int64_t count = std::min(each, piece.q_end - query);
        plan.item.push_back({static_cast<int32_t>(query), static_cast<int32_t>(count), static_cast<int32_t>(begin),
                             static_cast<int32_t>(end - begin), static_cast<int32_t>(plan.slots)});
        for (int64_t i = 0; i < count; ++i)
          parts[static_cast<size_t>(query + i)].push_back(static_cast<int32_t>(plan.slots++));
      }
    }
  }
  std::ranges::stable_sort(plan.item, std::greater(), &DecodeItem::keys);
  plan.part_begin.push_back(0);
  for (const std::vector<int32_t>& own : parts) {
    plan.part.insert(plan.part.end(), own.begin(), own.end());
    plan.part_begin.push_back(static_cast<int32_t>(plan.part.size()));
  }
  return plan;
}

}  // namespace fpdist::kernels
