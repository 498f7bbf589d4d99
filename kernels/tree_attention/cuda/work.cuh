#pragma once
// tree_attention on the GPU: what a block of threads works on, whatever the tensor cores.

#include "kernels/cuda/vector.cuh"
#include "kernels/tree_attention/cuda/tree_attention_kernel.hpp"

namespace fpdist::kernels {

/// What a block does. Heads that share keys run at the same time; what takes longest begins first.
struct TileWork {
  int head, block, first, tiles;
  __device__ __forceinline__ explicit TileWork(const TileLists& lists) {
    head = static_cast<int>(blockIdx.x);
    block = __ldg(lists.order + blockIdx.y);
    first = __ldg(lists.offset + block);
    tiles = __ldg(lists.offset + block + 1) - first;
  }
};
inline dim3 grid_of(int heads, const TileLists& lists) {
  return {static_cast<unsigned>(heads), static_cast<unsigned>(lists.blocks)};
}

/// What a block of threads does of a block of queries whose list may be cut: the tiles of its part, none of a part that
/// a block which is not cut does not have.
struct QueryPart {
  int head, part, first, tiles;
  bool is_cut, is_here;
  __device__ __forceinline__ QueryPart(const TileWork& work, int heads, const ListCut& cut) {
    head = work.head % heads, part = work.head / heads;
    is_cut = static_cast<int>(blockIdx.y) < cut.blocks, is_here = is_cut || part == 0;
    const int parts = is_cut ? cut.parts : 1, before = work.tiles * part / parts;
    first = work.first + before, tiles = work.tiles * (part + 1) / parts - before;
  }
};

/// What a block of threads does of a block of keys: steps, each a tile with one query head. None of a part that a block
/// which is not cut does not have.
struct KeySteps {
  int key_head, part, begin, count;
  bool is_cut, is_here;
  __device__ __forceinline__ KeySteps(const TreeAttentionBackwardArguments& a, const TileWork& work) {
    key_head = work.head % a.k.heads, part = work.head / a.k.heads;
    is_cut = static_cast<int>(blockIdx.y) < a.cut.blocks, is_here = is_cut || part == 0;
    const int steps = work.tiles * (a.q.heads / a.k.heads), parts = is_cut ? a.cut.parts : 1;
    begin = static_cast<int>(static_cast<int64_t>(steps) * part / parts);
    count = static_cast<int>(static_cast<int64_t>(steps) * (part + 1) / parts) - begin;
  }
};

/// body(T{}) of what the results are to be: float32, or rounded to what the products are of.
template <typename Rounded = BFloat16, typename Body>
auto with_element(Element element, const Body& body) {
  return element == Element::kFloat32 ? body(float{}) : body(Rounded{});
}
/// body(T{}) of what the products are of.
template <typename Body>
auto with_factor(Element element, const Body& body) {
  return element == Element::kFloat16 ? body(Float16{}) : body(BFloat16{});
}

}  // namespace fpdist::kernels
