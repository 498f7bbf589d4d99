#pragma once
// tree_attention on the GPU: rows of the tiles that its kernels are built for. Plain C++: the lists are made by these.

#include <cstdint>

namespace fpdist::kernels {

// Forward, and dQ: 64 queries a warpgroup; scores of 128 keys are half of what a lane's registers hold.
constexpr int kQueryBlock = 128, kKeysOfTile = 128;
// dK and dV: 64 keys a warpgroup; their sums fill half of the registers, so 64 queries a tile.
constexpr int kKeyBlock = 128, kQueriesOfTile = 64;
constexpr int64_t kPaddedRows = 128;  // a whole number of every block

}  // namespace fpdist::kernels
