#pragma once
// Tests: errors that every rank must throw with the same words.

#include <gtest/gtest.h>

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::test {

/// Text of the ErrorType that `body` throws on every one of `ranks` thread ranks, which must all say the same.
template <typename ErrorType>
std::string error_on_ranks(int ranks, const std::function<void(comm::World&)>& body) {
  std::mutex mutex;
  std::vector<std::string> said;
  comm::run_threads(ranks, [&](comm::World& world) {
    const std::string what = error_of<ErrorType>([&] { body(world); });
    const std::lock_guard lock(mutex);
    said.push_back(what);
  });
  for (const std::string& one : said) EXPECT_EQ(one, said.front());
  return said.empty() ? "" : said.front();
}

}  // namespace fpdist::test
