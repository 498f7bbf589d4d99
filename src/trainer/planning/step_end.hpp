#pragma once
// trainer (private): how a step ended.

namespace fpdist::trainer {

/// What became of a step's update: done, or left out for a gradient norm far above the usual, or for numbers that are
/// not finite.
enum class StepEnd { kUpdated, kSpike, kNotFinite };

}  // namespace fpdist::trainer
