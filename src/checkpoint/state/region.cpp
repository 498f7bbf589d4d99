#include "src/checkpoint/state/region.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <tuple>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::checkpoint {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 56;
constexpr size_t kMostDims = 64;

/// A region as runs: element p of the flattened slice, begin <= p < end, is element whole(p) of the tensor.
struct Runs {
  int64_t length, stride, offset, begin, end;

  int64_t whole(int64_t place) const { return place / length * stride + offset + place % length; }
  int64_t left_in_run(int64_t place) const { return std::min(length - place % length, end - place); }
  /// The first place whose element is not before `element` of the whole.
  int64_t first_from(int64_t element) const {
    if (element <= offset) return 0;
    const int64_t run = (element - offset) / stride;
    return run * length + std::min(length, element - offset - run * stride);
  }
};

/// The region has elements.
Runs runs_of(const Region& region) {
  const int64_t all = whole_elements(region);
  if (region.dim < 0) return {all, all, 0, region.begin, region.begin + region.size};
  const auto after = region.shape.begin() + region.dim + 1;
  const int64_t inner = std::accumulate(after, region.shape.end(), int64_t{1}, std::multiplies<>());
  return {.length = region.extent * inner,
          .stride = region.shape[index(region.dim)] * inner,
          .offset = region.from * inner,
          .begin = region.begin,
          .end = region.begin + region.size};
}

bool are_apart(const Region& a, const Region& b) {
  return a.dim >= 0 && a.dim == b.dim && (a.from + a.extent <= b.from || b.from + b.extent <= a.from);
}

}  // namespace

std::string fault_of(const Region& region) {
  if (region.shape.size() > kMostDims) return "more than 64 dims";
  int64_t elements = 1;
  for (const int64_t size : region.shape) {
    if (size < 0) return "a dim of a negative size";
    // Zeros are left out, so that no part of the product overflows either.
    if (size > 0 && (__builtin_mul_overflow(elements, size, &elements) || elements > kMostElements))
      return "a shape too large for any file";
  }
  if (region.dim < -1 || region.dim >= static_cast<int64_t>(region.shape.size())) return "a dim that it has not";
  const int64_t extent = region.dim < 0 ? 0 : region.shape[index(region.dim)];
  const bool lies_in =
      region.from >= 0 && region.extent >= 0 && region.extent <= extent && region.from <= extent - region.extent;
  if (!lies_in) return "a slice outside its shape";
  const bool is_empty = std::find(region.shape.begin(), region.shape.end(), 0) != region.shape.end();
  int64_t in_slice = is_empty ? 0 : elements;
  if (region.dim >= 0 && !is_empty) in_slice = elements / extent * region.extent;
  const bool is_range =
      region.begin >= 0 && region.size >= 0 && region.size <= in_slice && region.begin <= in_slice - region.size;
  return is_range ? "" : "a range outside its slice";
}

int64_t whole_elements(const Region& region) {
  return std::accumulate(region.shape.begin(), region.shape.end(), int64_t{1}, std::multiplies<>());
}

int64_t copy_common(const Region& from, const char* source, const Region& to, char* destination, size_t element) {
  if (from.size == 0 || to.size == 0 || are_apart(from, to)) return 0;
  const Runs a = runs_of(from), b = runs_of(to);
  int64_t at_a = a.begin, at_b = b.begin, copied = 0;
  while (at_a < a.end && at_b < b.end) {
    const int64_t whole_a = a.whole(at_a), whole_b = b.whole(at_b);
    if (whole_a < whole_b) {
      at_a = a.first_from(whole_b);
    } else if (whole_b < whole_a) {
      at_b = b.first_from(whole_a);
    } else {
      const int64_t count = std::min(a.left_in_run(at_a), b.left_in_run(at_b));
      std::memcpy(destination + index(at_b - b.begin) * element, source + index(at_a - a.begin) * element,
                  index(count) * element);
      at_a += count, at_b += count, copied += count;
    }
  }
  return copied;
}

std::string fault_of_cut(std::vector<const Region*> regions) {
  const Region& first = *regions.front();
  int64_t elements = 0;
  for (const Region* region : regions) {
    if (region->shape != first.shape) return "is of two shapes";
    if (region->dim != first.dim) return "is cut along two dims";
    elements += region->size;
  }
  std::erase_if(regions, [](const Region* region) { return region->size == 0; });
  const auto place = [](const Region* region) { return std::tie(region->from, region->extent, region->begin); };
  std::sort(regions.begin(), regions.end(), [&](auto* a, auto* b) { return place(a) < place(b); });
  for (size_t i = 1; i < regions.size(); ++i) {
    const Region &before = *regions[i - 1], &next = *regions[i];
    const bool same_slice = next.from == before.from && next.extent == before.extent;
    const bool apart = same_slice ? next.begin >= before.begin + before.size
                                  : first.dim >= 0 && next.from >= before.from + before.extent;
    if (!apart) return "has elements twice";
  }
  const int64_t all = whole_elements(first);
  return elements == all ? "" : text("has ", elements, " of its ", all, " elements");
}

}  // namespace fpdist::checkpoint
