#pragma once
// core: the one cast from the numbers that plans and layouts hold (signed, so that differences and -1 mean something)
// to what containers are asked with.

#include <concepts>
#include <cstddef>

namespace fpdist {

/// `number`, which is not negative, as an index or a size of a container.
template <std::integral Number>
constexpr size_t index(Number number) {
  return static_cast<size_t>(number);
}

}  // namespace fpdist
