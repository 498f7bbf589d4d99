#pragma once
// Tests: files of a test's own, and the reader run over them.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "tests/support/files/scratch.hpp"

namespace fpdist::test {

class ReaderTest : public ::testing::Test {
 protected:
  std::string write(std::string_view name, std::string_view bytes) const {
    const std::filesystem::path path = folder_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path.string();
  }

  data::Dataset read(Method method, std::string_view bytes, data::DataOptions options = {}) const {
    options.path = {write("rows.jsonl", bytes)};
    NullLog log;
    return data::read_dataset(options, method, *tokenizer_, log);
  }

  /// The DataError's text behind the file name ("line:byte: reason"), or "accepted".
  std::string error(Method method, std::string_view bytes, data::DataOptions options = {}) const {
    try {
      read(method, bytes, std::move(options));
    } catch (const DataError& error) {
      const std::string what = error.what(), file = (folder_ / "rows.jsonl").string() + ":";
      EXPECT_TRUE(what.starts_with(file)) << what;
      return what.substr(file.size());
    }
    return "accepted";
  }

  const Scratch scratch_;
  const std::filesystem::path folder_ = scratch_.path();
  std::unique_ptr<data::Tokenizer> tokenizer_ = data::make_byte_tokenizer();
};

}  // namespace fpdist::test
