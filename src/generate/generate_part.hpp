#pragma once
// generate: completions of some of the prompts that are asked for in all, by several or one after the other.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fpdist/generate/generate.hpp"

namespace fpdist::generate {

/// Told on the caller's thread, between two steps, of each prompt of `all` whose last completion is finished.
using Finished = std::function<void(size_t prompt, std::span<const Completion* const> completions)>;

/// generate() for the prompts [begin, end) of `all`; `first_prompt`: the number of the first of these. What prefix_kv
/// keeps of a prompt's own rows is decided among all, so that who completes which changes nothing.
std::vector<std::vector<Completion>> generate_part(const Stages& stages, std::span<const std::vector<int32_t>> all,
                                                   size_t begin, size_t end, const SamplingOptions& options,
                                                   uint64_t first_prompt, GenerationReport* report = nullptr,
                                                   const Progress& progress = {}, const Finished& finished = {});

}  // namespace fpdist::generate
