#pragma once
// tree_attention on the GPU: rows of the tiles that its kernels are built for. Plain C++: the lists are made by these.

#include <cstdint>

namespace fpdist::kernels {

// Forward: 64 queries a warpgroup; scores of 128 keys and the outputs take half of a lane's registers.
constexpr int kQueryBlock = 128, kKeysOfTile = 128;
// dQ: tiles of 64 keys, so that there is room for the next tile's scores and gradients while dQ adds up.
constexpr int kKeysOfBackwardTile = 64;
// dK and dV: 64 keys a warpgroup; their sums fill half of the registers, so 64 queries a tile.
constexpr int kKeyBlock = 128, kQueriesOfTile = 64;
// Processors that work is cut for: an H100's and an H200's. Not asked of the card: the same bits on every one.
constexpr int kProcessors = 132;
constexpr int64_t kPaddedRows = 128;  // a whole number of every block

}  // namespace fpdist::kernels
