#pragma once
// data: a data set in one file, mapped. Memory is what its index takes, 16 bytes a group; groups are read when a step
// wants them. The file appears by a rename, so what is there is whole; its index is checked when it is opened, a group
// when it is read.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/data/reader.hpp"
#include "src/core/checksum.hpp"
#include "src/files/mapped_file.hpp"

namespace fpdist::data {

/// A line that was said while a data set was read: it is said again when it comes from a cache.
struct SaidLine {
  LogLevel level;
  std::string line;
};

/// Writes a cache group by group. It appears with finish(); without that nothing stays. Throws DiskError.
class CacheWriter {
 public:
  /// Of what `key` stands for.
  CacheWriter(const std::string& path, const Digest& key);
  ~CacheWriter();
  void add(const Group& group);
  /// `dataset`: what else is known of it; its groups are those that were added.
  void finish(const Dataset& dataset, const std::vector<SaidLine>& said);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class TokenCache final : public GroupSource {
 public:
  /// Throws DataError, naming the file and the cure, for a file that is no cache of `key`: another format, cut,
  /// damaged.
  TokenCache(const std::string& path, const Digest& key);
  /// The data set without its groups.
  const Dataset& facts() const { return facts_; }
  const std::vector<SaidLine>& said() const { return said_; }
  int64_t groups() const { return groups_; }
  /// Throws DataError where its bytes are damaged. Any thread.
  Group group(int64_t id) const override;
  std::optional<std::string_view> first_tokens(int64_t id) const override;
  /// All of it in memory.
  Dataset dataset() const;

 private:
  struct Record;
  Record record(int64_t id) const;

  std::string path_;
  files::MappedFile file_;
  int64_t groups_ = 0;
  uint64_t index_ = 0;  // where it begins
  Dataset facts_;
  std::vector<SaidLine> said_;
};

}  // namespace fpdist::data
