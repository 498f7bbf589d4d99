#pragma once
// Tests: what a call throws, and what its text says.

#include <gtest/gtest.h>

#include <exception>
#include <string>
#include <vector>

namespace fpdist::test {

/// Text of the ErrorType that `call` throws, or "accepted". Other errors come through.
template <typename ErrorType, typename Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const ErrorType& error) {
    return error.what();
  }
  return "accepted";
}

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

/// Every one of `words` stands in `what`.
inline void expect_words(const std::string& what, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(what.find(word), std::string::npos) << word << "\nnot in: " << what;
}

}  // namespace fpdist::test
