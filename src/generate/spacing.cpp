#include "src/generate/spacing.hpp"

namespace fpdist::generate {
namespace {

int64_t rounded_up(int64_t rows) { return (rows + kPanel - 1) / kPanel * kPanel; }

}  // namespace

int64_t places_of_prompt(int64_t rows, int64_t shared, Spacing spacing) {
  return spacing == Spacing::kAligned ? rounded_up(rows - shared) : rows - shared;
}

int64_t places_of_leaf(int64_t prompt_rows, int64_t room, Spacing spacing) {
  return spacing == Spacing::kAligned ? rounded_up(prompt_rows % kPanel + room) : room;
}

int64_t places_alone(const std::vector<int32_t>& prompt, const SamplingOptions& options) {
  const Spacing spacing = spacing_of(options);
  const int64_t rows = std::ssize(prompt);
  return places_of_prompt(rows, 0, spacing) + padding_of(spacing) +
         options.num_generations * places_of_leaf(rows, options.max_completion_length, spacing);
}

}  // namespace fpdist::generate
