#pragma once
// rms_norm on the GPU: the numbers that its kernels are built with.

namespace fpdist::kernels {

constexpr int kAccessesOfLane = 4;  // of a row, all held in registers
constexpr int kFewAccesses = 2;     // of backward's lanes where these are enough
constexpr int kFewestLanes = 8;     // 128 bytes side by side, the L2's line
constexpr int kThreads = 128;       // of a block whose rows need no more
constexpr int kMostThreads = 512;   // 128 registers a thread then
// Backward's blocks on an H100's 132 SMs, all at once; more would only make more partial sums. As a fourth of a row's
// registers is its part of dw, four small blocks of lanes with two vectors fit, three with four.
constexpr int kFewPartials = 3 * 132, kMostPartials = 4 * 132;

}  // namespace fpdist::kernels
