#pragma once
// rms_norm on the GPU: the numbers that its kernels are built with.

namespace fpdist::kernels {

constexpr int kAccessesOfLane = 4;  // of a row, all held in registers
constexpr int kFewestLanes = 8;     // 128 bytes side by side, the L2's line
constexpr int kThreads = 128;       // of a block whose rows need no more
constexpr int kMostThreads = 512;   // 128 registers a thread then
constexpr int kMostPartials = 512;

}  // namespace fpdist::kernels
