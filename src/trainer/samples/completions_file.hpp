#pragma once
// trainer (private): what was sampled and what it was worth, for people.

#include <span>
#include <string>

#include "src/trainer/samples/judge.hpp"

namespace fpdist::trainer {

/// Collective: rank 0 writes output_dir/completions/step-<step>.jsonl, a line a completion: step, prompt, completion,
/// finish_reason, prefix_length of a hybrid, a value of each reward (null: it does not judge), reward, advantage.
/// Throws DiskError there.
void write_completions(const std::string& output_dir, int64_t step, const Judged& judged,
                       std::span<const std::string> names, std::span<const data::Group> groups, comm::World& world);

}  // namespace fpdist::trainer
