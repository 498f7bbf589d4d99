#pragma once
// core: a number by which what two ranks hold is told apart: 128 bits, made as fast as memory is read. Against
// accidents, not against an adversary. Source: XXH3 (libxxhash).

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>

struct XXH3_state_s;

namespace fpdist {

struct Digest {
  uint64_t high = 0, low = 0;
  auto operator<=>(const Digest&) const = default;
};

/// 32 hexadecimal digits.
std::string to_string(const Digest& digest);

/// Of everything that was added, in that order; where one addition ends and the next begins is not told apart.
class Checksum {
 public:
  Checksum();
  Checksum& add(const void* data, size_t bytes);
  /// Of one number.
  template <typename T>
  requires std::is_arithmetic_v<T> Checksum& add(T value) { return add(&value, sizeof value); }
  /// Of a list and its length.
  template <typename T>
  requires std::is_arithmetic_v<T> Checksum& add(std::span<const T> values) {
    return add(static_cast<uint64_t>(values.size())).add(values.data(), values.size_bytes());
  }
  Digest value() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

}  // namespace fpdist
