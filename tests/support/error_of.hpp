#pragma once
// Tests: what a call throws, and what its text says.

#include <gtest/gtest.h>

#include <exception>
#include <string>

namespace fpdist::test {

/// Text of the ErrorType that `call` throws; a test failure when it throws nothing or something else.
template <typename ErrorType, typename Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const ErrorType& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another kind of error: " << error.what();
    return "";
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

inline bool contains(const std::string& whole, const std::string& part) {
  return whole.find(part) != std::string::npos;
}

}  // namespace fpdist::test
