#pragma once
// Tests: what a call throws, and what its text says.

#include <functional>
#include <string>

#include "fpdist/core/error.hpp"

namespace fpdist::test {

/// Text of the ErrorType that `call` throws; empty when it throws nothing.
template <typename ErrorType = CommError>
std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const ErrorType& error) {
    return error.what();
  }
  return "";
}

inline bool has(const std::string& whole, const std::string& part) { return whole.find(part) != std::string::npos; }

}  // namespace fpdist::test
