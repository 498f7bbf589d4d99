#pragma once
// Tests: any key of a configuration with another value.

#include <type_traits>
#include <variant>

#include "src/core/key.hpp"

namespace fpdist::test {

/// Another value of the field's type.
inline void change(const Field& field) {
  std::visit(
      [](const auto& of) {
        using Value = std::remove_pointer_t<std::remove_cvref_t<decltype(of)>>;
        if constexpr (std::is_same_v<Value, NamedField>)
          of.set(of.value, (of.index(of.value) + 1) % of.names().size());
        else if constexpr (std::is_same_v<Value, bool>)
          *of = !*of;
        else if constexpr (std::is_arithmetic_v<Value>)
          *of += 1;
        else if constexpr (std::is_same_v<Value, TextMap>)
          (*of)["ours"] = "theirs";
        else if constexpr (std::is_same_v<Value, Texts>)
          of->push_back("a, b");
        else
          of->push_back('7');
      },
      field);
}

}  // namespace fpdist::test
