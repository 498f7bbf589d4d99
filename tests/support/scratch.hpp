#pragma once
// Tests: a folder of its own for each test, gone with it.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

namespace fpdist::test {

class Scratch {
 public:
  Scratch() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(test->test_suite_name()) + "." + test->name();
    std::replace(name.begin(), name.end(), '/', '_');  // of tests with parameters
    folder_ = std::filesystem::path(FPDIST_BINARY_DIR) / "scratch" / name;
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~Scratch() { std::filesystem::remove_all(folder_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string operator/(const std::string& name) const { return (folder_ / name).string(); }
  std::string path() const { return folder_.string(); }

 private:
  std::filesystem::path folder_;
};

}  // namespace fpdist::test
